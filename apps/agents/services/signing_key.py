"""Which keys agents trust: registered before they sign, retired after they have signed."""

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from apps.accounts import selectors as accounts
from apps.agents.models import ClusterTable, SigningKey
from apps.agents.signing import Signer, signer


def signer_registered() -> Signer:
    """The signer of the settings, which agents have been told to trust.

    The first key of an installation is registered by its first use. A later one must have been announced while
    the old one still signed: agents would refuse everything signed by a key they never heard of.
    Raises ImproperlyConfigured.
    """
    current = signer()
    known = set(SigningKey.objects.filter(retired_at=None).values_list("key_id", flat=True))
    if current.key_id in known:
        return current
    if known:
        raise ImproperlyConfigured(
            f"MERIDIAN_SIGNING_KEY {current.key_id} was never announced to the agents (they trust"
            f" {', '.join(sorted(known))}): put the old key back and run manage.py signing_key_rotate --announce"
        )
    SigningKey.objects.bulk_create(
        [SigningKey(key_id=current.key_id, public_key=current.public_key)], ignore_conflicts=True
    )
    return current


@transaction.atomic
def signing_key_announce(*, new: Signer) -> bool:
    """Have agents trust a key that will sign from the next start on; whether it was new to them.

    Raises ImproperlyConfigured if the key that signs now is not one that they trust.
    """
    from apps.agents.services.tables_compile import keysets_compile

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
