"""For the tests of applications that submit leads: a pytest plugin, whose fixtures are described in docs/testing.md."""
