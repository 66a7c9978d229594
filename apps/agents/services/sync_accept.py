"""One sync of an agent: judge who sent it, keep its lease, store what it reports; all in one transaction.

Usage and windows are stored whoever of the cluster's instances delivers them, also a superseded or fenced one: they
happened. What it observes counts only from the holder. A control plane that is behind the agent's epoch stores
nothing: what it acknowledged would be missing in the one that has taken its place.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.agents import selectors
from apps.agents.leases import lease_after_sync
from apps.agents.models import AgentInstance, AgentSession
from apps.agents.services.loads_store import loads_store
from apps.agents.services.observed_store import observed_store
from apps.agents.standing import Claim, Former, Seat, Verdict, judge
from apps.api.clock import database_now
from apps.telemetry.services import decisions_store, event_record, usage_store, windows_store
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.sync import SyncRequest


@dataclass(frozen=True)
class SyncOutcome:
    """What the answer to a sync says, but for the tables. ``authentic`` is False if the key was replaced meanwhile."""

    authentic: bool
    plane_epoch: int
    cluster_epoch: int
    observed_acknowledged: int = 0
    observed_full_wanted: bool = False
    usage_acknowledged: dict[str, int] | None = None
    windows_acknowledged: dict[str, int] | None = None
    refusal: Refusal | None = None


@transaction.atomic
def sync_accept(*, request: SyncRequest, public_key: bytes) -> SyncOutcome:
    """Take a sync whose signature by ``public_key`` was verified."""
    now = database_now()
    session = _session_locked(request)
    plane_epoch = selectors.plane_epoch()
    if session is None or bytes(session.public_key) != public_key:
        return SyncOutcome(authentic=False, plane_epoch=plane_epoch, cluster_epoch=0)
    if request.plane_epoch > plane_epoch:
        return SyncOutcome(
            authentic=True,
            plane_epoch=plane_epoch,
            cluster_epoch=session.cluster_epoch,
            refusal=plane_behind(request.plane_epoch, plane_epoch),
        )
    verdict = _judged(session, request, now)
    usage_acknowledged: dict[str, int] = {}
    windows_acknowledged: dict[str, int] = {}
    full_wanted = False
    if verdict is not Verdict.REPLAYED:
        usage_acknowledged = usage_store(cluster=session.cluster, records=request.usage)
        windows_acknowledged = windows_store(cluster=session.cluster, windows=request.windows)
    if verdict in (Verdict.CURRENT, Verdict.TAKES_OVER):
        session.last_sync_at = now
        session.lease_expires_at = now + lease_after_sync(request.wait_s)
        loads_store(cluster_id=session.cluster_id, loads=request.loads)
        decisions_store(cluster=session.cluster, decisions=request.decisions)
        if request.observed is not None:
            full_wanted = observed_store(session=session, delta=request.observed, now=now)
    session.save()
    return SyncOutcome(
        authentic=True,
        plane_epoch=plane_epoch,
        cluster_epoch=session.cluster_epoch,
        observed_acknowledged=session.observed_generation,
        observed_full_wanted=full_wanted or (request.observed is None and not session.state_hash),
        usage_acknowledged=usage_acknowledged,
        windows_acknowledged=windows_acknowledged,
        refusal=_refusal(verdict, session, request),
    )


def _session_locked(request: SyncRequest) -> AgentSession | None:
    return (
        AgentSession.objects.select_for_update(of=("self",))
        .select_related("cluster")
        .filter(cluster_id=UUID(request.cluster_id))
        .first()
    )


def _judged(session: AgentSession, request: SyncRequest, now: datetime) -> Verdict:
    """The verdict, and what it changes of who speaks for the cluster."""
    former = session.former_instances.filter(instance_id=request.instance_id).first()
    verdict = judge(
        Seat(
            instance_id=session.instance_id,
            cluster_epoch=session.cluster_epoch,
            epoch_confirmed=session.epoch_confirmed,
            last_sequence=session.last_sequence,
            fenced=session.fenced_at is not None,
        ),
        Former(last_sequence=former.last_sequence, told=former.superseded_at is not None) if former else None,
        Claim(
            instance_id=request.instance_id,
            cluster_epoch=request.cluster_epoch,
            sequence=request.sequence,
        ),
    )
    if verdict is Verdict.TAKES_OVER:
        _take_over(session, request)
    elif verdict in (Verdict.SUPERSEDED, Verdict.DUPLICATE):
        AgentInstance.objects.update_or_create(
            session=session,
            instance_id=request.instance_id,
            defaults={"last_sequence": request.sequence, "superseded_at": now},
        )
    if verdict is Verdict.DUPLICATE:
        _fence(session, request, now)
    if request.instance_id == session.instance_id and verdict is not Verdict.REPLAYED:
        session.last_sequence = request.sequence
        # A higher epoch than ours is left from before a back-up was restored: it only rises, so it is kept.
        session.epoch_confirmed = request.cluster_epoch >= session.cluster_epoch
        session.cluster_epoch = max(session.cluster_epoch, request.cluster_epoch)
    elif former is not None and verdict is Verdict.FENCED:
        former.last_sequence = request.sequence
        former.save(update_fields=["last_sequence"])
    return verdict


def _take_over(session: AgentSession, request: SyncRequest) -> None:
    if session.instance_id:
        AgentInstance.objects.create(
            session=session, instance_id=session.instance_id, last_sequence=session.last_sequence
        )
    session.cluster_epoch = max(session.cluster_epoch, request.cluster_epoch) + 1
    session.instance_id = request.instance_id
    event_record(
        organization_id=session.cluster.organization_id,
        cluster_id=session.cluster_id,
        reason="AgentTookOver",
        message=f"another instance of the agent speaks for {session.cluster.name} (epoch {session.cluster_epoch})",
    )


def _fence(session: AgentSession, request: SyncRequest, now: datetime) -> None:
    session.fenced_at = now
    event_record(
        organization_id=session.cluster.organization_id,
        cluster_id=session.cluster_id,
        severity="error",
        reason="DuplicateAgent",
        message=(
            f"two agents speak for {session.cluster.name} (instances {session.instance_id} and"
            f" {request.instance_id}): both are fenced, they serve on but change nothing;"
            " end one of them and enrol the other with a new token"
        ),
    )


def _refusal(verdict: Verdict, session: AgentSession, request: SyncRequest) -> Refusal | None:
    if verdict is Verdict.REPLAYED:
        return Refusal(
            rule="sequence_replayed",
            subject="sequence",
            value=str(request.sequence),
            remedy="raise the sequence with every sync",
        )
    if verdict is Verdict.SUPERSEDED:
        return Refusal(
            rule="superseded",
            subject="cluster_epoch",
            value=str(request.cluster_epoch),
            remedy=f"another instance holds this cluster in epoch {session.cluster_epoch}; end this one",
        )
    if verdict in (Verdict.DUPLICATE, Verdict.FENCED):
        return Refusal(
            rule="fenced",
            subject="instance_id",
            value=request.instance_id,
            remedy="two agents spoke for this cluster; end one and enrol the other with a new token",
        )
    return None


def plane_behind(agents_epoch: int, plane_epoch: int) -> Refusal:
    """The answer to an agent that has heard of a later control plane than this one."""
    return Refusal(
        rule="plane_epoch_behind",
        subject="plane_epoch",
        value=str(agents_epoch),
        remedy=(
            f"this control plane speaks in epoch {plane_epoch}; if it was restored from a back-up,"
            f" run manage.py plane_epoch_raise --above {agents_epoch}"
        ),
    )
