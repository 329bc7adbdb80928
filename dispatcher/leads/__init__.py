"""A lead and its parts: valid by construction, the same from `submit` to the wire."""
