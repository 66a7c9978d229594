"""Request by request: each through the gateway's picker and waiting room, replicas counted by the agent's autoscaler.

A ``Cluster`` is all that happens behind one gateway.
"""

from collections.abc import Iterable, Iterator

from controlplane.simulation.serving.accounts import Account
from controlplane.simulation.serving.batch import Batch
from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.cluster import Cluster, Outlined
from controlplane.simulation.serving.jobs import Jobs
from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.renting import Renting
from controlplane.simulation.serving.request import Request
from controlplane.simulation.serving.world import MOMENTS, ServingWorld, Survey
from workloadplane.autoscaling import AutoscalingPolicy


class RequestMode:
    """Single owner. ``play`` once, then ``outcome``."""

    def __init__(
        self, world: ServingWorld, seen: Survey, policy: AutoscalingPolicy, name: str, renting: Renting
    ) -> None:
        """``name``: what the policy is called."""
        self._world, self._seen, self._name, self._renting = world, seen, name, renting
        self._clock, self._account = Clock(), Account()
        outlined = Outlined(
            end_s=seen.end_s,
            work_s=seen.work_s,
            demand=seen.demand(MOMENTS).tolist(),
            renting=renting,
            spot_traces=seen.spot_traces,
        )
        self._cluster = Cluster(world, outlined, policy, clock=self._clock)
        self._jobs = Jobs(world.jobs, self._cluster.fleet.supply, self._clock)

    def play(self, batches: Iterable[Batch]) -> Iterator[float]:
        """All of it; the virtual time from batch to batch."""
        service, clock, cluster, account = self._world.service, self._clock, self._cluster, self._account
        for batch in batches:
            columns = (
                batch.at_s,
                batch.input_tokens,
                batch.output_tokens,
                service.prefill_steps_of(batch),
                service.work_s(batch),
            )
            for at_s, *facts in zip(*(each.tolist() for each in columns), strict=True):
                if at_s >= clock.next_s:
                    clock.go_on(at_s)
                cluster.arrive(Request(at_s, *facts, account=account), at_s)
            account.requests += len(batch)
            yield float(batch.at_s[-1])
        clock.go_on(self._seen.end_s)
        cluster.close()

    def outcome(self) -> Outcome:
        """What came of it."""
        account, cluster, tally = self._account, self._cluster, self._cluster.fleet.tally
        return Outcome(
            policy=self._name,
            mode="request",
            procurement=self._renting.kind,
            requests=account.requests,
            within_slo=account.within_slo,
            replica_hours=tally.replica_hours,
            usd=tally.usd,
            launches=cluster.launches,
            failed_launches=tally.failed_launches,
            lost_replicas=cluster.lost_replicas,
            resumed=cluster.resumed,
            not_served=account.not_served,
            waited_s_p99=account.waited.percentile_s(0.99),
            ttft_s_p50=account.ttft.percentile_s(0.5),
            ttft_s_p99=account.ttft.percentile_s(0.99),
            rented=tally.rented,
            reasons=cluster.renter.reasons,
            jobs=self._jobs.outcomes(self._seen.end_s),
            moments=cluster.moments,
            broken=cluster.broken,
        )
