"""How long a replica takes: prompts by their tokens, answers by how many it computes side by side.

A step of a continuous batch gives each request in it one token; it takes ``itl_base_s`` and ``itl_s_per_request`` more
for each request. A prompt takes ``prefill_base_s`` and ``prefill_s_per_token`` more for each token, and all that are in
the batch wait as long: a full batch of requests that follow one another takes a prompt's time for each of its seats
while one answer is made. It is counted as that many steps, and goes faster in a batch that is not full: exact where
all seats are taken, and on the side of too much time where few are. What is not in it: contexts that grow while an
answer is made, and prompts that hit a cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.batch import Batch
from controlplane.simulation.serving.series import FloatArray
from workloadplane.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceModel:
    """Times in seconds. ``seats``: requests that a replica computes side by side; the rest waits in the gateway."""

    seats: int
    prefill_base_s: float
    prefill_s_per_token: float
    itl_base_s: float
    itl_s_per_request: float

    def __post_init__(self) -> None:
        if self.itl_s(self.seats) <= 0:
            raise ValueError(
                f"itl_base_s {self.itl_base_s}, itl_s_per_request {self.itl_s_per_request}: "
                "one of them must be above 0"
            )

    def itl_s(self, concurrency: int) -> float:
        """Between two tokens of one answer while ``concurrency`` are made."""
        return self.itl_base_s + self.itl_s_per_request * concurrency

    def prefill_s(self, input_tokens: float) -> float:
        """A prompt's, in which nothing else is computed."""
        return self.prefill_base_s + self.prefill_s_per_token * input_tokens

    def prefill_steps(self, input_tokens: float) -> float:
        """As many steps of a full batch as a prompt takes; an answer takes one for each token."""
        return self.seats * self.prefill_s(input_tokens) / self.itl_s(self.seats)

    def first_token_s(self, input_tokens: float, concurrency: int) -> float:
        """From a seat to the first token: the prompt, and one step."""
        return self.prefill_s(input_tokens) + self.itl_s(concurrency)

    def prefill_steps_of(self, batch: Batch) -> FloatArray:
        """Of each prompt."""
        prefill_s = self.prefill_base_s + self.prefill_s_per_token * batch.input_tokens
        return np.asarray(self.seats * prefill_s / self.itl_s(self.seats), dtype=np.float64)

    def request_s(self, batch: Batch) -> FloatArray:
        """How long each takes where all seats are taken."""
        steps = self.prefill_steps_of(batch) + batch.output_tokens
        return np.asarray(self.itl_s(self.seats) * steps, dtype=np.float64)

    def work_s(self, batch: Batch) -> FloatArray:
        """Replica-seconds that each asks for: its time on one of the seats."""
        return self.request_s(batch) / self.seats


def fitted(
    *, seats: int, prefill: Sequence[tuple[float, float]], decode: Sequence[tuple[float, float]]
) -> ServiceModel:
    """From what was measured: (prompt tokens, seconds) and (requests side by side, seconds between tokens).

    Least squares on a straight line each, neither part of it below 0. Raises ValueError for fewer than two points.
    """
    prefill_base_s, prefill_s_per_token = _line(prefill, "prefill")
    itl_base_s, itl_s_per_request = _line(decode, "decode")
    return ServiceModel(
        seats=seats,
        prefill_base_s=prefill_base_s,
        prefill_s_per_token=prefill_s_per_token,
        itl_base_s=itl_base_s,
        itl_s_per_request=itl_s_per_request,
    )


def _line(points: Sequence[tuple[float, float]], name: str) -> tuple[float, float]:
    if len({x for x, _ in points}) < 2:
        raise ValueError(f"{name} has {counted(len(points), 'point')}: give at least two different ones")
    x, y = np.array(points, dtype=np.float64).T
    slope, base = np.polyfit(x, y, 1)
    if slope < 0:
        return float(y.mean()), 0.0
    if base < 0:
        return 0.0, float((x @ y) / (x @ x))
    return float(base), float(slope)
