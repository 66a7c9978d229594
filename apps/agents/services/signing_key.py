"""Which keys agents trust: registered before they sign, retired after they have signed."""

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

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


def signing_key_announce(*, new: Signer) -> bool:
    """Have agents trust a key that will sign from the next start on; whether it was new to them."""
    _, created = SigningKey.objects.get_or_create(key_id=new.key_id, defaults={"public_key": new.public_key})
    return created


def signing_key_retire(*, key_id: str) -> bool:
    """Stop trusting a key some time from now; whether there was one to retire. Raises ImproperlyConfigured.

    The key that signs now cannot be retired.
    """
    if key_id == signer().key_id:
        raise ImproperlyConfigured(f"{key_id} is the key that signs now: start with the new one first")
    return bool(SigningKey.objects.filter(key_id=key_id, retired_at=None).update(retired_at=timezone.now()))
