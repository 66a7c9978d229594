"""Incidents: one for each cause, with a time line, what moved, what it cost, and whom the pager told."""
