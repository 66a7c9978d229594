"""Rows in, what a template shows out: frozen dataclasses, no queries, no clock (``now`` is an argument)."""
