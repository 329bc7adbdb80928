"""Look-ups: what became of a POST whose answer was lost."""
