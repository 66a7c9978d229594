"""Requests as columns: what travels from a source to whoever plays them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.simulation.serving.series import FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests in order of time, after those of the batch before. Arrays of equal length.

    at_s: seconds since the beginning of the world
    origin: where their clients are, as the world counts places; None: all at the first one
    """

    at_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    origin: IntArray | None = None

    def __len__(self) -> int:
        return len(self.at_s)

    def part(self, first: int, after: int) -> "Batch":
        """The requests from ``first`` up to ``after``, which is not among them."""
        origin = None if self.origin is None else self.origin[first:after]
        return Batch(
            self.at_s[first:after], self.input_tokens[first:after], self.output_tokens[first:after], origin
        )

    def at(self, origin: IntArray) -> "Batch":
        """The same, from clients there."""
        return Batch(self.at_s, self.input_tokens, self.output_tokens, origin)


def until(batches: Iterable[Batch], end_s: float) -> Iterator[Batch]:
    """What arrives before ``end_s``; the source is not asked for more than that."""
    for batch in batches:
        after = int(np.searchsorted(batch.at_s, end_s, side="left"))
        if after:
            yield batch.part(0, after)
        if after < len(batch):
            return


def faster(batches: Iterable[Batch], speed: float) -> Iterator[Batch]:
    """The same requests in less time: at ``speed`` 4 an hour's come in a quarter of it."""
    for batch in batches:
        yield Batch(batch.at_s / speed, batch.input_tokens, batch.output_tokens)
