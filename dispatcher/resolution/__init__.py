"""Unknown outcomes: look-ups, what they prove, and what becomes of the lead."""
