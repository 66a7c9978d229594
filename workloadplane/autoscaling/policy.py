"""The five factors, which algorithm reads them, and its constants."""

from dataclasses import dataclass, field
from typing import Literal

from workloadplane.autoscaling.tuning import PredictiveTuning

PolicyKind = Literal["predictive", "kpa"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalingPolicy:
    """What a deployment's owner asks for.

    kind:                       ``predictive`` foresees the load over a cold start; ``kpa`` is Knative's algorithm
    min_replicas, max_replicas: the bounds; ``min_replicas`` 0 allows scale to zero
    autoscaling_window_s:       the load is averaged over this long (the stable window)
    scale_down_delay_s:         the highest count wanted within this long is kept
    concurrency_target:         requests at hand per replica that one replica is meant for
    target_utilisation:         the share of a replica that is to be used; above 1 where requests may wait,
                                which trims what ``predictive`` wants to the mean load at least
    slo_attainment:             the share of requests that shall be inside the SLO; ``predictive`` sets its head-room
                                by it

    The rest has Knative's meanings and, where it states one, its defaults. ``panic_share`` of the stable
    window is the panic window; demand of ``panic_threshold`` times the ready replicas starts a panic, in
    which the count only rises. The rates bound one decision of ``kpa`` by a factor of the
    ready replicas; with ``predictive`` ``scale_down_rate`` is by what factor they may become fewer within a window.
    ``scale_to_zero_grace_s`` is how long the last replica stays after the count fell to zero. With ``predictive``
    it stays ``min_alive_s`` after a wake too, and twice as long with each further wake of the same hour.
    """

    min_replicas: int
    max_replicas: int
    autoscaling_window_s: float
    scale_down_delay_s: float
    concurrency_target: float
    kind: PolicyKind = "predictive"
    target_utilisation: float = 1.0
    slo_attainment: float = 0.999
    panic_share: float = 0.1
    panic_threshold: float = 2.0
    scale_up_rate: float = 1000.0
    scale_down_rate: float = 2.0
    scale_to_zero_grace_s: float = 10.0
    min_alive_s: float = 60.0
    tuning: PredictiveTuning = field(default_factory=PredictiveTuning)

    def __post_init__(self) -> None:
        if self.kind not in ("predictive", "kpa"):
            raise ValueError(f"kind {self.kind!r}: give predictive or kpa")
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas}, max_replicas {self.max_replicas}: give 0 <= min <= max"
            )
        if not self.concurrency_target > 0:
            raise ValueError(f"concurrency_target {self.concurrency_target}: give a number above 0")
        if not self.target_utilisation > 0:
            raise ValueError(f"target_utilisation {self.target_utilisation}: give a number above 0")
        if not self.autoscaling_window_s > 0:
            raise ValueError(f"autoscaling_window_s {self.autoscaling_window_s}: give seconds above 0")
        if not self.scale_down_delay_s >= 0:
            raise ValueError(f"scale_down_delay_s {self.scale_down_delay_s}: give 0 or more seconds")
        if not 0 < self.slo_attainment < 1:
            raise ValueError(f"slo_attainment {self.slo_attainment}: give a share between 0 and 1")

    @property
    def panic_window_s(self) -> float:
        """Seconds of the short window; at least two, or a single sample would be a panic."""
        return max(2.0, self.autoscaling_window_s * self.panic_share)
