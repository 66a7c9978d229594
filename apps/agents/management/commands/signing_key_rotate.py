"""``manage.py signing_key_rotate``: replace the key that signs tables, without any agent losing trust."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from apps.agents import selectors
from apps.agents.services import signing_key_announce, signing_key_retire
from apps.agents.signing import signer_from_pem


class Command(BaseCommand):
    """Announce, restart with the new key, retire: in this order."""

    help = (
        "Rotate the key that signs tables. 1. --announce NEW_KEY_FILE while the old key is still in use; wait until"
        " no cluster is named as not having heard of it. 2. Restart with MERIDIAN_SIGNING_KEY_FILE naming the new"
        " key. 3. --retire OLD_KEY_ID. Without an option: show the keys and who has not heard of the newest."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--announce", metavar="FILE", help="an Ed25519 private key, PEM (PKCS8)")
        choice.add_argument("--retire", metavar="KEY_ID", help="a key that signs no more")

    def handle(self, *args: Any, announce: str | None, retire: str | None, **options: Any) -> None:
        try:
            if announce is not None:
                self._announce(Path(announce))
            if retire is not None and not signing_key_retire(key_id=retire):
                raise CommandError(f"--retire: {retire} is no key in use; see manage.py signing_key_rotate")
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        for key in selectors.signing_keys():
            self.stdout.write(f"{key.key_id} since {key.created_at:%Y-%m-%d} {_standing(key.retired_at)}")
        for name in selectors.clusters_behind_keyset():
            self.stdout.write(f"cluster {name} has not yet taken the newest keys")

    def _announce(self, path: Path) -> None:
        try:
            pem = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--announce: {path} cannot be read: {error}") from error
        signing_key_announce(new=signer_from_pem(pem, source=str(path)))


def _standing(retired_at: Any) -> str:
    return "trusted" if retired_at is None else f"retired {retired_at:%Y-%m-%d}, trusted for 7 days from then"
