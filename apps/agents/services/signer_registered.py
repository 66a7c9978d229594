"""The key that signs now: registered before it signs for the first time."""

from django.core.exceptions import ImproperlyConfigured

from apps.agents.models import SigningKey
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
