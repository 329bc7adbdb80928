"""Taking leads in, one by one or by the million."""
