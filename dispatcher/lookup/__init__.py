"""Look-ups: find the outcome of a POST whose answer was lost."""
