"""Log events and traces, their format, and the redaction of phone numbers and secrets."""
