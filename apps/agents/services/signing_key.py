"""Which keys agents trust: announced before they sign, retired after they have signed."""

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from apps.accounts import selectors as accounts
from apps.agents.models import ClusterTable, SigningKey
from apps.agents.services.signer_registered import signer_registered
from apps.agents.services.tables_compile import keysets_compile
from apps.agents.signing import Signer, signer


@transaction.atomic
def signing_key_announce(*, new: Signer) -> bool:
    """Have agents trust a key that will sign from the next start on; whether it was new to them.

    Raises ImproperlyConfigured if the key that signs now is not one that they trust.
    """
    signer_registered()
    row, created = SigningKey.objects.get_or_create(
        key_id=new.key_id, defaults={"public_key": new.public_key}
    )
    if row.retired_at is not None:
        raise ImproperlyConfigured(
            f"{new.key_id} was retired; a retired key never signs again: make a new one"
        )
    if created:
        for organization_id in accounts.organization_ids():
            keysets_compile(organization_id=organization_id)
    return created


@transaction.atomic
def signing_key_retire(*, key_id: str) -> bool:
    """Stop trusting a key some time from now; whether there was one to retire.

    Raises ImproperlyConfigured for the key that signs now, and for one with which a table is still signed.
    """
    if key_id == signer().key_id:
        raise ImproperlyConfigured(f"{key_id} is the key that signs now: start with the new one first")
    if ClusterTable.objects.filter(key_id=key_id).exists():
        raise ImproperlyConfigured(
            f"{key_id} still signs tables: the new key signs them within seconds of its start"
        )
    return bool(SigningKey.objects.filter(key_id=key_id, retired_at=None).update(retired_at=timezone.now()))
