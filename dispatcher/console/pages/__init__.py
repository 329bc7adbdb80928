"""What stands behind each door: functions from a visit to a response."""
