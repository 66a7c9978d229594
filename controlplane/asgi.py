"""The control plane as an ASGI application: the agents' calls first, Django for everything else."""

import os
from typing import Any, cast

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.production")

_django = cast(Any, get_asgi_application())  # its own type knows plain dictionaries alone

# These need the apps that Django has just loaded.
from apps.agents.wire.application import AgentWire  # noqa: E402
from apps.api.bodies import BoundedBodies  # noqa: E402

application = AgentWire(BoundedBodies(_django))
