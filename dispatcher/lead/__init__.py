"""A lead and what belongs to it: validation, phone numbers, variables, options."""
