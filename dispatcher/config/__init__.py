"""The settings, and what they are made of."""
