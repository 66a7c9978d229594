"""How long prompts and answers are: drawn, or given by quantiles that were measured."""

import math
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.series import FloatArray


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Tokens with this mean, and a standard deviation of ``cv`` means (0: all alike); at least one each."""

    mean: float
    cv: float = 0.0

    def draw(self, count: int, rng: np.random.Generator) -> IntArray:
        """So many lengths."""
        spread = math.sqrt(math.log1p(self.cv**2))
        drawn = self.mean * np.exp(spread * rng.standard_normal(count) - spread**2 / 2)
        return np.maximum(1, np.rint(drawn)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Tokens by share of requests: rising shares from 0 to 1, lengths in between on straight lines."""

    shares: FloatArray
    tokens: FloatArray

    @property
    def mean(self) -> float:
        """The mean of what is drawn."""
        return float(np.trapezoid(self.tokens, self.shares))

    @property
    def variance(self) -> float:
        """The variance of what is drawn."""
        low, high = self.tokens[:-1], self.tokens[1:]
        squares = (low**2 + low * high + high**2) / 3.0
        return max(0.0, float((squares * np.diff(self.shares)).sum()) - self.mean**2)

    def draw(self, count: int, rng: np.random.Generator) -> IntArray:
        """So many lengths."""
        drawn = np.interp(rng.random(count), self.shares, self.tokens)
        return np.maximum(1, np.rint(drawn)).astype(np.int64)


Lengths = Lognormal | Quantiles
