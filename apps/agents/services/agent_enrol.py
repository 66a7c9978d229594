"""Enrolment: a one-time token binds an agent's own key to a cluster."""

from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.utils import timezone

from apps.accounts.selectors import secret_sha256
from apps.agents import selectors
from apps.agents.models import AgentSession, EnrolmentToken
from apps.agents.services.signer_registered import signer_registered
from apps.agents.services.tables_compile import tables_compile
from apps.api.actors import system_actor
from apps.api.problems import Problem, field_problem
from apps.api.services import audit_record, one_transaction
from apps.fleet.services.cluster_gateway_set import cluster_gateway_set
from apps.telemetry.services import event_record
from workloadplane.protocol.sync import EnrolRequest, EnrolResponse, enrol_signed_bytes


@one_transaction
def agent_enrol(*, request: EnrolRequest) -> EnrolResponse:
    """Bind the request's key to the token's cluster: the epoch rises, a fence is lifted, others' keys count no more.

    The same agent may ask again with the same token, should the answer have been lost.
    Raises Problem ``invalid_document``, ``unauthenticated`` (the token is unknown, used or expired, or the proof is
    wrong: which of them is not said to strangers).
    """
    from apps.placements.services import placement_request

    _check(request)
    token = _token(request)
    cluster = token.cluster
    session = AgentSession.objects.select_for_update().filter(cluster=cluster).first()
    if token.used_at is not None and not _is_asked_again(token, session, request):
        raise _refused()
    signer_registered()
    if token.used_at is None:
        session = _bound(token, session, request)
        cluster_gateway_set(cluster=cluster, gateway_url=request.gateway_url)
        placement_request(organization_id=cluster.organization_id)
        tables_compile(cluster_ids=[cluster.pk])
    elif session is not None:
        _seated(session, request)
    assert session is not None  # noqa: S101  (a used token has left a session behind)
    return EnrolResponse(
        cluster_id=str(cluster.pk),
        cluster_name=cluster.name,
        cluster_epoch=session.cluster_epoch,
        plane_epoch=selectors.plane_epoch(),
        signing_keys=selectors.signing_keys_trusted(now=timezone.now()),
    )


def _check(request: EnrolRequest) -> None:
    if len(request.public_key) != 32:
        raise field_problem("/public_key", "must be a raw Ed25519 key of 32 bytes")
    if not 1 <= len(request.instance_id) <= 36 or not request.instance_id.isprintable():
        raise field_problem("/instance_id", "must be 1 to 36 printable characters")
    if not gateway_url_is_good(request.gateway_url):
        remedy = "send http:// or https:// with host and port, and no path"
        raise field_problem("/gateway_url", "is no address of a gateway", remedy=remedy)


def gateway_url_is_good(url: str) -> bool:
    """Whether other clusters' gateways may be sent there: scheme, host and port, nothing else."""
    if len(url) > 255 or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        return False
    bare = not (
        parts.path or parts.query or parts.fragment or "@" in parts.netloc or "?" in url or "#" in url
    )
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_is_good and bare


def _token(request: EnrolRequest) -> EnrolmentToken:
    """The token's row, locked: of two that come at once the second finds it used."""
    token = (
        EnrolmentToken.objects.select_for_update(of=("self",))
        .select_related("cluster__organization", "cluster__region")
        .filter(sha256=secret_sha256(request.token), expires_at__gt=timezone.now())
        .first()
    )
    try:
        public_key = Ed25519PublicKey.from_public_bytes(request.public_key)
        public_key.verify(request.proof, enrol_signed_bytes(request.token))
    except (InvalidSignature, ValueError, UnicodeEncodeError) as error:
        raise _refused() from error
    if token is None or token.cluster.retired_at is not None:
        raise _refused()
    return token


def _is_asked_again(token: EnrolmentToken, session: AgentSession | None, request: EnrolRequest) -> bool:
    return (
        session is not None
        and bytes(session.public_key) == request.public_key
        and session.enrolled_at == token.used_at
    )


def _bound(token: EnrolmentToken, session: AgentSession | None, request: EnrolRequest) -> AgentSession:
    now = timezone.now()
    token.used_at = now
    token.save(update_fields=["used_at"])
    epoch = session.cluster_epoch + 1 if session is not None else 1
    if session is not None:
        session.former_instances.all().delete()  # what they signed counts no more
    before = {"cluster_epoch": epoch - 1, "fenced": session.fenced_at is not None} if session else None
    session, _ = AgentSession.objects.update_or_create(
        cluster=token.cluster,
        defaults={
            "public_key": request.public_key,
            "cluster_epoch": epoch,
            "epoch_confirmed": True,  # the answer tells it; a copy of its key one epoch behind must not be quicker
            "instance_id": request.instance_id,
            "last_sequence": 0,
            "fenced_at": None,
            "observed_generation": 0,
            "state_hash": "",
            "facts": {"agent_version": request.agent_version[:63]},
            "conditions": [],
            "enrolled_at": now,
        },
    )
    cluster = token.cluster
    audit_record(
        actor=system_actor(f"enrolment token {token.prefix}"),
        action="enrolled",
        subject=cluster,
        before=before,
        after={"cluster_epoch": epoch, "gateway_url": request.gateway_url},
        organization_id=cluster.organization_id,
    )
    event_record(
        organization_id=cluster.organization_id,
        cluster_id=cluster.pk,
        reason="AgentEnrolled",
        message=f"an agent enrolled for {cluster.name} (epoch {epoch}, version {request.agent_version[:63]})",
    )
    return session


def _seated(session: AgentSession, request: EnrolRequest) -> None:
    """Whoever asks again holds the cluster, also as another process: the one before died with the answer."""
    if session.instance_id == request.instance_id:
        return
    former = session.former_instances.filter(instance_id=request.instance_id).first()
    session.instance_id = request.instance_id
    session.last_sequence = former.last_sequence if former is not None else 0
    session.save(update_fields=["instance_id", "last_sequence"])
    if former is not None:
        former.delete()


def _refused() -> Problem:
    return Problem(
        "unauthenticated",
        "the enrolment token is unknown, used or expired, or the proof does not fit; make a new token",
        headers={"WWW-Authenticate": 'Meridian-Enrolment realm="meridian"'},
    )
