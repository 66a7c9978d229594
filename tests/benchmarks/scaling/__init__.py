"""Scaling beside other policies, on traces of production."""
