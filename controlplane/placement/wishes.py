"""What is asked for: deployments and their demand, what they may cost, and what weighs how much.

Ids are opaque strings. Units are in the names; money is integer micro-dollars. ``ValueError`` names row and field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controlplane.placement import checks

Posture = Literal["active_active", "active_passive"]
Survivability = Literal["none", "zone", "region", "provider"]
#: GPU vendors on which an engine runs; an engine that is not here runs on any.
ENGINE_VENDORS: Mapping[str, tuple[str, ...]] = {"tensorrt_llm": ("nvidia",), "nim": ("nvidia",)}
#: Share of a GPU's memory that weights may take; the rest is for the KV cache and the engine itself.
WEIGHTS_MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What the owner asks of latency, in seconds at the 95th percentile; None = nothing."""

    ttft_s_p95: float | None = None
    inter_token_latency_s_p95: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDeployment:
    """A deployment as it is wanted now.

    residency:         jurisdictions in which it may run; empty = anywhere
    providers_allowed: providers on which it may run; empty = all but ``providers_denied``
    priority:          higher is served first where capacity is short
    created_at_s:      seconds since 1970; within a priority the older is served first
    """

    deployment_id: str
    name: str
    project_id: str
    generation: int
    revision_id: str
    revision: int
    model_version_id: str
    engine: str
    precision: str
    weights_bytes: int
    gpus_per_replica: int
    min_replicas: int
    max_replicas: int
    concurrency_target: float
    posture: Posture
    survivability: Survivability
    residency: tuple[str, ...]
    priority: int
    created_at_s: float
    slo: Slo = Slo()
    providers_allowed: tuple[str, ...] = ()
    providers_denied: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        row = f"deployment {self.name}"
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise checks.RowError(
                f"{row}: min_replicas {self.min_replicas}, max_replicas {self.max_replicas};"
                " give 0 <= min <= max and max >= 1",
                self,
            )
        checks.within(self, checks.DEPLOYMENT, lambda _: row)
        checks.within(self.slo, checks.SLO, lambda _: f"{row}: slo", part_of=self)
        both = sorted(set(self.providers_allowed) & set(self.providers_denied))
        if both:
            raise checks.RowError(
                f"{row}: providers_denied names {both[0]}, which providers_allowed names too;"
                " take it out of one of them",
                self,
            )
        if "" in self.residency:
            raise checks.RowError(
                f"{row}: residency names an empty jurisdiction; name it, or leave residency empty",
                self,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one origin region asks of one deployment, over the planning horizon. Planned for is the p95.

    Tokens are output tokens, as in a profile.
    """

    deployment_id: str
    origin_region: str
    requests_per_s_p50: float
    requests_per_s_p95: float
    tokens_per_s_p50: float
    tokens_per_s_p95: float

    def __post_init__(self) -> None:
        checks.within(self, checks.DEMAND, _demand_named)
        for field in ("requests_per_s_p95", "tokens_per_s_p95"):
            if 0 < getattr(self, field) < checks.LEAST_RATE:
                raise checks.RowError(
                    f"{_demand_named(self)}: {field} is {getattr(self, field)};"
                    f" give 0, or {checks.LEAST_RATE:g} per second or more",
                    self,
                )
        if self.requests_per_s_p95 > 0 and self.tokens_per_s_p95 > 0:
            checks.within(self, (checks.TOKENS_PER_REQUEST,), _demand_named)

    @property
    def tokens_per_request(self) -> float:
        """Of the p95 rates."""
        return self.tokens_per_s_p95 / self.requests_per_s_p95


def _demand_named(row: Demand) -> str:
    return f"demand of {row.deployment_id} from {row.origin_region}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a project may spend per hour, reserved capacity at its reservation's price."""

    project_id: str
    micro_usd_per_h: int

    def __post_init__(self) -> None:
        checks.within(self, checks.BUDGET, lambda row: f"budget of project {row.project_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Policy: what else than the rent counts, and how much. All of it becomes USD/h (see ``plan_cost``).

    interruption_h:        an expected loss of a replica (``hazard_per_h``) costs so many hours of its price
    refusal_h:             a replica asked for and not had (1 - ``obtainability``) costs so many hours of its price
    spot_horizon_h:        a spot replica counts, where a loss must be survived, with its chance to live so long
    cache_h:               a replica that moves loses a warm cache worth so many hours of its price, and the time of
                           its cold start besides
    handover_h:            clients wait while another cluster begins to serve in ``active_passive``, and find a cold
                           cache there: worth so many hours of the price of what served
    amortise_h:            moves and hand-overs are paid back over so many hours
    hysteresis:            a plan that moves what runs is adopted where it saves this many times what its moves cost
    network_ttft_share:    of a TTFT target, the share that the network may take at no cost
    network_free_s:        what the network may take at no cost where there is no target
    late_micro_usd_per_request_s: what a second beyond that costs, for one request
    wire_bytes_per_token:  what an output token weighs on its way to the client, as an event of a stream
    relaxed_survivability_h, relaxed_latency_h, missing_replica_h: what it costs to break a wish, as hours of the
                           dearest price of a replica that the deployment could get; the order of these three is the
                           order in which wishes are relaxed. Each is more than twice all that comes before it, of three
                           kinds of survivability too: a priority weighs less than twice another, so that it decides
                           inside a kind of wish and never between kinds
    """

    interruption_h: float = 1.0
    refusal_h: float = 0.25
    spot_horizon_h: float = 1.0
    cache_h: float = 0.1
    handover_h: float = 0.5
    amortise_h: float = 6.0
    hysteresis: float = 1.5
    network_ttft_share: float = 0.2
    network_free_s: float = 0.1
    late_micro_usd_per_request_s: int = 200
    wire_bytes_per_token: int = 200
    relaxed_survivability_h: float = 50.0
    relaxed_latency_h: float = 300.0
    missing_replica_h: float = 1000.0

    def __post_init__(self) -> None:
        checks.within(self, checks.WEIGHTS, lambda _: "weights")
