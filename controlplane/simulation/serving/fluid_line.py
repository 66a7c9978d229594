"""The line of one region of several in the fluid mode: work in the order in which it came, and whose requests it is."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.fluid import late_shares
from controlplane.simulation.serving.series import FloatArray


@dataclass(frozen=True, slots=True)
class Guests:
    """Requests of clients to whom another region is the nearest.

    came:    the bin in which they came here; ``age_s``: how long they had been on their way by then
    account: the number of the region that is the nearest to them
    """

    came: int
    account: int
    requests: float
    age_s: float


class Line:
    """Single owner: its region. ``queue_s``: replica-seconds of work that is not done yet."""

    def __init__(self, bins: int, bin_s: float) -> None:
        self.queue_s = 0.0
        self._bin_s = bin_s
        self._flows_s, self._served_s, self._own = (array("d", bytes(8 * bins)) for _ in range(3))
        self._guests: list[Guests] = []

    def come(self, now: int, work_s: float, requests: float) -> None:
        """Of its own clients, in this bin."""
        self._flows_s[now] += work_s
        self.queue_s += work_s
        self._own[now] += requests

    def host(self, now: int, work_s: float, guests: Guests) -> None:
        """Of others' clients."""
        self._flows_s[now] += work_s
        self.queue_s += work_s
        if guests.requests:
            self._guests.append(guests)

    def serve(self, now: int, could_s: float) -> float:
        """So much could be done in this bin; how much is."""
        done_s = min(self.queue_s, could_s)
        self.queue_s -= done_s
        self._served_s[now] = done_s
        return done_s

    def leave(self, now: int, work_s: float) -> Iterator[tuple[int, float, float]]:
        """So much goes from the line's end: (bin in which it came, work, own clients' requests with it)."""
        left_s, place = min(work_s, self.queue_s), now
        self.queue_s -= left_s
        while left_s > 0 and place >= 0:
            here_s = self._flows_s[place]
            if here_s > 0:
                gone_s = min(left_s, here_s)
                requests = self._own[place] * gone_s / here_s
                self._flows_s[place] -= gone_s
                self._own[place] -= requests
                left_s -= gone_s
                yield place, gone_s, requests
            place -= 1

    def late(self, wait_slo_s: float) -> tuple[FloatArray, FloatArray]:
        """Own clients' requests by the bin in which they came: all of them, and those that waited too long."""
        shares = late_shares(
            np.array(self._flows_s), np.array(self._served_s), bin_s=self._bin_s, wait_slo_s=wait_slo_s
        )
        own = np.array(self._own)
        return own, own * shares

    def late_guests(self, wait_slo_s: float) -> Iterator[tuple[Guests, float]]:
        """Each with the share that waited too long, the way here counted."""
        if not self._guests:
            return
        edges = np.arange(len(self._flows_s) + 1) * self._bin_s
        arrived = np.concatenate(([0.0], np.cumsum(self._flows_s)))
        served = np.concatenate(([0.0], np.cumsum(self._served_s)))
        came = np.array([each.came for each in self._guests])
        age_s = np.array([each.age_s for each in self._guests])
        deadline = edges[came] + wait_slo_s - age_s
        done = np.where(deadline < edges[came], -1.0, np.interp(deadline, edges, served))
        is_late = (done < arrived[came] - 1e-6) & (deadline <= edges[-1])
        yield from zip(self._guests, is_late.astype(np.float64).tolist(), strict=True)
