"""Upgrades in motion: workers and producers of the release before beside those of today, on one database."""
