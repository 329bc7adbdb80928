"""Postgres: connections, statements, and what several packages keep there."""
