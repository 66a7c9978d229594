"""Read replicas' logs: ask their clusters for them, keep them asked, and give what has come."""

from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from apps.agents.models import AgentSession, LogLines, LogWatch, Replica
from apps.agents.services.tables_store import CHANNEL
from apps.api.actors import Actor
from apps.api.problems import Problem, not_found, parameter_problem
from apps.api.services import audit_record, one_transaction
from apps.deployments.models import Deployment
from workloadplane.protocol.logs import LOGS_WANTED_MAX

#: So long after its last reading a log is delivered on.
LEASE = timedelta(seconds=15)
REPLICAS_MAX = 20


@dataclass(frozen=True)
class LogSource:
    """A replica whose log is read. ``delivery``: waiting, delivered, no_log or agent_away."""

    replica: UUID
    cluster: str
    state: str
    delivery: str


@dataclass(frozen=True)
class LogText:
    """Lines of one replica."""

    replica: UUID
    text: str


@dataclass(frozen=True)
class LogReading:
    """What is new; ``cursor`` is for the next reading."""

    replicas: tuple[LogSource, ...]
    items: tuple[LogText, ...]
    cursor: int


@one_transaction
def logs_watch(
    *,
    actor: Actor,
    deployment: Deployment,
    now: datetime,
    replica: str | None = None,
    after: int = 0,
    tail: int | None = None,
) -> LogReading:
    """The lines that came after a cursor; without one, all that are held.

    Of one replica, also one that has ended, or of all that run; of the last that ran if none does.
    Raises Problem ``not_found``, ``invalid_parameter``, ``too_many_requests``.
    """
    found = _replicas(deployment, replica)
    watches = _watched(found, now)
    _audited(actor, deployment, watches)
    away = _clusters_away(found, now)
    rows = list(
        LogLines.objects.filter(watch__in=watches, pk__gt=after)
        .order_by("pk")
        .values_list("pk", "watch__replica_id", "text")
    )
    items = [LogText(replica=replica_id, text=text) for _, replica_id, text in rows]
    by_replica = {watch.replica_id: watch for watch in watches}
    return LogReading(
        replicas=tuple(
            LogSource(
                replica=row.pk,
                cluster=row.cluster.name,
                state=row.state,
                delivery=_delivery(by_replica[row.pk], is_away=row.cluster_id in away),
            )
            for row in found
        ),
        items=tuple(items if tail is None else _last_lines(items, tail)),
        cursor=rows[-1][0] if rows else after,
    )


def logs_forget(*, now: datetime) -> None:
    """Drop what nobody reads any more."""
    LogWatch.objects.filter(wanted_until__lte=now).delete()


def _replicas(deployment: Deployment, wanted: str | None) -> list[Replica]:
    replicas = deployment.replicas.select_related("cluster").order_by("-started_at", "-id")
    if wanted is None:
        found = list(replicas.filter(gone_at=None)[: REPLICAS_MAX + 1]) or list(replicas[:1])
        if len(found) > REPLICAS_MAX:
            raise parameter_problem("replica", f"name one: it has more than {REPLICAS_MAX} replicas")
        return found
    found = [row for row in replicas if str(row.pk).startswith(wanted.lower())]
    if not found:
        raise not_found("replica", wanted)
    if len(found) > 1:
        raise parameter_problem("replica", "several replicas begin so; give more of the id", value=wanted)
    return found


def _watched(replicas: list[Replica], now: datetime) -> list[LogWatch]:
    """A live watch for each replica; those that begin wake their cluster's agent."""
    ids = sorted(replica.pk for replica in replicas)
    LogWatch.objects.filter(replica_id__in=ids, wanted_until__lte=now).delete()
    living = set(LogWatch.objects.filter(replica_id__in=ids).values_list("replica_id", flat=True))
    begun = [replica for replica in replicas if replica.pk not in living]
    for cluster_id in {replica.cluster_id for replica in begun}:
        others = LogWatch.objects.filter(cluster_id=cluster_id, wanted_until__gt=now).count()
        if others + sum(replica.cluster_id == cluster_id for replica in begun) > LOGS_WANTED_MAX:
            raise Problem(
                "too_many_requests",
                f"{LOGS_WANTED_MAX} logs of this cluster are read already; name one replica, or try later",
                headers={"Retry-After": str(int(LEASE.total_seconds()))},
            )
    LogWatch.objects.bulk_create(
        [
            LogWatch(
                replica=replica,
                cluster_id=replica.cluster_id,
                runtime_ref=replica.runtime_ref,
                wanted_until=now + LEASE,
            )
            for replica in begun
        ],
        ignore_conflicts=True,
    )
    watches = list(LogWatch.objects.select_for_update().filter(replica_id__in=ids).order_by("pk"))
    LogWatch.objects.filter(pk__in=[watch.pk for watch in watches]).update(wanted_until=now + LEASE)
    if begun:
        clusters = sorted({str(replica.cluster_id) for replica in begun})
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, c) FROM unnest(%s::text[]) AS c", [CHANNEL, clusters])
    return watches


def _audited(actor: Actor, deployment: Deployment, watches: list[LogWatch]) -> None:
    """Reading a client's words leaves a trace: once for each reader, for as long as it goes on."""
    unseen = [watch for watch in watches if str(actor) not in watch.readers]
    if not unseen:
        return
    for watch in unseen:
        watch.readers = [*watch.readers, str(actor)]
        watch.save(update_fields=["readers"])
    names = sorted(str(watch.replica_id) for watch in unseen)
    audit_record(actor=actor, action="logs_read", subject=deployment, after={"replicas": names})


def _clusters_away(replicas: list[Replica], now: datetime) -> set[UUID]:
    clusters = {replica.cluster_id for replica in replicas}
    heard = AgentSession.objects.filter(cluster_id__in=clusters, lease_expires_at__gt=now)
    return clusters - set(heard.values_list("cluster_id", flat=True))


def _delivery(watch: LogWatch, *, is_away: bool) -> str:
    if is_away:
        return "agent_away"
    if watch.answered_at is None:
        return "waiting"
    return "delivered" if watch.kept else "no_log"


def _last_lines(items: list[LogText], count: int) -> list[LogText]:
    """The last lines of each replica, in the order in which they came."""
    left: dict[UUID, int] = defaultdict(lambda: count)
    kept: deque[LogText] = deque()
    for item in reversed(items):
        lines = item.text.splitlines(keepends=True)
        taken = lines[max(0, len(lines) - left[item.replica]) :]
        left[item.replica] -= len(taken)
        if taken:
            kept.appendleft(LogText(replica=item.replica, text="".join(taken)))
    return list(kept)
