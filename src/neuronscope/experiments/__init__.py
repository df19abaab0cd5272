"""Measurements for the documentation, and what they are made of."""
