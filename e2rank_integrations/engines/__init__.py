"""Engines embed token ids: the narrow waist below which no string is seen."""
