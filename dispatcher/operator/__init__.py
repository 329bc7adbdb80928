"""An operator's reads and decisions, each with its SQL."""
