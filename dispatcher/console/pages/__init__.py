"""What stands behind each door: functions from a request to a response."""
