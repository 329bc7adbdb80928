"""The schema as a golden file, and upgrades of a database with rows in every state."""
