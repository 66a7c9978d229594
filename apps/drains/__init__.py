"""Planned moves: what is being emptied, in the open and in order."""
