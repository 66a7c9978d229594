"""The ``meridian`` command. Errors are one line on stderr; exit codes are ``meridian.errors.ExitCode``."""

from meridian.cli.app import main

__all__ = ["main"]
