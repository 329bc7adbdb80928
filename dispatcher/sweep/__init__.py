"""The sweep: periodic repair."""
