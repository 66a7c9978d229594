"""The one-machine set-up: plain HTTP on the loopback interface, everything else as in production."""

from controlplane.settings.base import *  # noqa: F403

MERIDIAN_FAULTS = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
MERIDIAN_WEBHOOK_LOOPBACK = True
