"""Alerts: the outbox's use case and the signed webhook."""
