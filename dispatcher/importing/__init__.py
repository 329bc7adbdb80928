"""Importing leads from files: spreadsheets as people really save them, and JSON lines."""
