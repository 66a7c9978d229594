"""Prints the JSON Schema of a deployment's document."""

import json
from typing import Any

from django.core.management.base import BaseCommand

from apps.deployments.schema import deployment_schema


class Command(BaseCommand):
    """``manage.py deployment_schema > docs/schemas/deployment.schema.json``"""

    help = "Print the JSON Schema of a deployment's document."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(deployment_schema(), indent=2))
