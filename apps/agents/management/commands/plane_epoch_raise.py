"""``manage.py plane_epoch_raise``: after a back-up was restored, or another control plane took over."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.agents.services import plane_epoch_raise


class Command(BaseCommand):
    """Agents refuse a control plane that is behind what they have heard; this brings it before them again."""

    help = "Raise the epoch in which this control plane speaks, so that agents follow it again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--above",
            type=int,
            default=0,
            help="the highest epoch that agents have named (see their refusals)",
        )

    def handle(self, *args: Any, above: int, **options: Any) -> None:
        if not 0 <= above < 2**62:
            raise CommandError("--above: must be an epoch, 0 or more")
        self.stdout.write(f"this control plane now speaks in epoch {plane_epoch_raise(above=above)}")
