"""The control plane as an ASGI application: the agents' calls first, Django for everything else."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.production")

_django = get_asgi_application()

from apps.agents.wire.application import AgentWire  # noqa: E402  (needs the apps that Django has just loaded)

application = AgentWire(_django)
