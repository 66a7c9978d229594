"""The five factors, and the constants of the algorithm that reads them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalingPolicy:
    """What a deployment's owner asks for.

    min_replicas, max_replicas: the bounds; ``min_replicas`` 0 allows scale to zero
    autoscaling_window_s:       the load is averaged over this long (the stable window)
    scale_down_delay_s:         the highest count wanted within this long is kept
    concurrency_target:         requests at hand per replica that one replica is meant for

    The rest has Knative's meanings and, where it states one, its defaults. ``panic_share`` of the stable
    window is the panic window; demand of ``panic_threshold`` times the ready replicas starts a panic, in
    which the count only rises. The rates bound one decision by a factor of the ready replicas.
    ``scale_to_zero_grace_s`` is how long the last replica stays after the count fell to zero.
    """

    min_replicas: int
    max_replicas: int
    autoscaling_window_s: float
    scale_down_delay_s: float
    concurrency_target: float
    panic_share: float = 0.1
    panic_threshold: float = 2.0
    scale_up_rate: float = 1000.0
    scale_down_rate: float = 2.0
    scale_to_zero_grace_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas}, max_replicas {self.max_replicas}: give 0 <= min <= max"
            )
        if not self.concurrency_target > 0:
            raise ValueError(f"concurrency_target {self.concurrency_target}: give a number above 0")
        if not self.autoscaling_window_s > 0:
            raise ValueError(f"autoscaling_window_s {self.autoscaling_window_s}: give seconds above 0")
        if not self.scale_down_delay_s >= 0:
            raise ValueError(f"scale_down_delay_s {self.scale_down_delay_s}: give 0 or more seconds")

    @property
    def panic_window_s(self) -> float:
        """Seconds of the short window; at least two, or a single sample would be a panic."""
        return max(2.0, self.autoscaling_window_s * self.panic_share)
