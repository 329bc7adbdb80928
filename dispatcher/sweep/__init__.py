"""The sweep: periodic maintenance."""
