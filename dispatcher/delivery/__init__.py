"""Delivery runs: claim, POST, record."""
