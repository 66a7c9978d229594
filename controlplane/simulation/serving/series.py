"""Load over time in equal bins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSeries:
    """What arrives in each of equal bins.

    bin_s:    width of a bin, seconds
    requests: requests that arrive in each bin
    work_s:   replica-seconds of token work that arrive in each bin, at the concurrency target
    """

    bin_s: float
    requests: FloatArray
    work_s: FloatArray

    def __post_init__(self) -> None:
        if not self.bin_s > 0:
            raise ValueError(f"bin_s {self.bin_s}: give seconds above 0")
        if self.requests.ndim != 1 or self.requests.shape != self.work_s.shape or not self.requests.size:
            raise ValueError(
                f"requests {self.requests.shape}, work_s {self.work_s.shape}: give two arrays of one equal length"
            )
        for name, values in (("requests", self.requests), ("work_s", self.work_s)):
            if not np.isfinite(values).all() or (values < 0).any():
                raise ValueError(f"{name}: give finite numbers of at least 0")

    @property
    def seconds(self) -> float:
        """How long the series is."""
        return self.bin_s * self.requests.size

    def between(self, begin_s: float, end_s: float) -> "LoadSeries":
        """The bins from ``begin_s`` up to ``end_s``."""
        begin, end = round(begin_s / self.bin_s), round(end_s / self.bin_s)
        return LoadSeries(bin_s=self.bin_s, requests=self.requests[begin:end], work_s=self.work_s[begin:end])


def series_of(arrived_s: FloatArray, work_s: FloatArray, *, bin_s: float, end_s: float) -> LoadSeries:
    """The series of single requests: when each arrived (0 <= t < ``end_s``) and how much work it is."""
    bins = np.floor(arrived_s / bin_s).astype(np.int64)
    count = int(np.ceil(end_s / bin_s))
    return LoadSeries(
        bin_s=bin_s,
        requests=np.bincount(bins, minlength=count).astype(np.float64),
        work_s=np.bincount(bins, weights=work_s, minlength=count).astype(np.float64),
    )
