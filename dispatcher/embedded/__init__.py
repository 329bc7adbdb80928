"""A real Postgres and a real Redis as child processes: for `dispatcher up`, `dispatcher demo` and the tests."""
