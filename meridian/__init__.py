"""What users import and type: the Python client and the ``meridian`` command.

Knows only the public APIs, and ``infra.embedded`` for the one-machine set-up.
"""

from meridian.client import Client
from meridian.errors import ApiError, MeridianError, Unreachable

__all__ = ["ApiError", "Client", "MeridianError", "Unreachable"]
