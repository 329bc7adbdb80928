"""Postgres: connections, statements, and the tables that several packages use."""
