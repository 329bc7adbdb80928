"""Taking leads in: `submit` and `submit_many`."""
