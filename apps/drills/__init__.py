"""Drills: what would be lost is taken away on purpose, measured, put back, and set against what was promised."""
