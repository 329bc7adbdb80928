"""Figures and probes for machines."""
