"""Giving a person an account."""

import secrets

from apps.accounts.models import User
from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction

#: 24 random bytes are 32 characters.
PASSWORD_BYTES = 24


@one_transaction
def user_create(
    *, actor: Actor, username: str, email: str = "", is_superuser: bool = False
) -> tuple[User, str]:
    """The account and its first password, which is random and known to nobody else: hand it over, keep no copy.

    Raises Problem ``already_exists`` for a username that is taken.
    """
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    user = User(username=username, email=email, is_superuser=is_superuser, is_staff=is_superuser)
    user.set_password(password)
    user.save(force_insert=True)
    audit_record(
        actor=actor,
        action="created",
        subject=user,
        after={"username": username, "is_superuser": is_superuser},
    )
    return user, password
