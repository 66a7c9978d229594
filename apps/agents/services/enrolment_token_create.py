"""Making the one-time tokens with which an agent binds its key to a cluster."""

import secrets
from datetime import timedelta

from django.utils import timezone

from apps.accounts.selectors import secret_sha256
from apps.agents.models import EnrolmentToken
from apps.api.actors import Actor
from apps.api.problems import Problem
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import Cluster

VALID_FOR = timedelta(hours=24)
#: 32 random bytes: nobody can guess a token, so its stored form needs no slow hash.
SECRET_BYTES = 32


@one_transaction
def enrolment_token_create(
    *, actor: Actor, cluster: Cluster, valid_for: timedelta = VALID_FOR
) -> tuple[EnrolmentToken, str]:
    """The token's row and the token itself, which is stored nowhere: show it once.

    Its use binds another key, so it replaces whoever speaks for the cluster, and lifts a fence.
    Raises Problem ``conflict`` if the cluster was retired.
    """
    if cluster.retired_at is not None:
        raise Problem("conflict", f"{cluster.name} was retired, which is for good; make another cluster")
    prefix = f"mre_{secrets.token_hex(4)}"
    token = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    row = EnrolmentToken.objects.create(
        cluster=cluster,
        prefix=prefix,
        sha256=secret_sha256(token),
        expires_at=timezone.now() + valid_for,
    )
    row.refresh_from_db()
    audit_record(
        actor=actor,
        action="enrolment_token_created",
        subject=cluster,
        after={"prefix": prefix, "expires_at": row.expires_at},
        organization_id=cluster.organization_id,
    )
    return row, token
