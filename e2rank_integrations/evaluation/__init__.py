"""Measuring rankings: judged collections, first stages, controls, and the comparison that prints them side by side.

Start at `compare.compare`. Needs the `evaluation` extra; importing it needs none.
"""
