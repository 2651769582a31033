"""Tests of the text layer: literal ids, formats, cuts, and the budget of the prompt."""
