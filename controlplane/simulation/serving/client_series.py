"""The load of many clients in bins, without drawing each request: what fourteen days of a busy deployment are made by.

A client is the renewal process of ``servegen``: gamma gaps of its cv, along its rates. The sum of k such gaps is gamma
too, so the moment of every k-th request is drawn, exactly, k being what comes in half a second; those between are
taken to come evenly. Bursts are as long as those of single requests. The work of a bin's requests is gamma with the
mean and the variance that the lengths of so many have.
"""

import math
from collections.abc import Iterable

import numpy as np

from controlplane.simulation.serving.arrivals import gaps
from controlplane.simulation.serving.series import FloatArray, LoadSeries
from controlplane.simulation.serving.servegen import DAY_S, WINDOW_S, Client, scale_of
from controlplane.simulation.serving.streams import Streams
from workloadplane.autoscaling import TokenWork

#: So long a client's requests take, in the mean, that are drawn at once.
BLOCK_S = 0.5
_BLOCKS_AT_ONCE = 65_536


def mean_work_s(clients: Iterable[Client], work: TokenWork) -> float:
    """Replica-seconds of the mean request of all clients."""
    requests = total_s = 0.0
    for client in clients:
        edges, middles = _bins(WINDOW_S, float(client.path.at_s[-1]))
        expected = np.diff(client.path.expected_until(edges))
        requests += float(expected.sum())
        total_s += float(expected @ _work(client, middles, work)[0])
    return total_s / (requests or 1.0)


def load_of(
    clients: Iterable[Client],
    streams: Streams,
    *,
    requests_per_s: float,
    work: TokenWork,
    bin_s: float,
    end_s: float,
) -> LoadSeries:
    """The clients' load up to ``end_s``, their rates scaled to ``requests_per_s`` in the mean."""
    chosen = list(clients)
    factor = scale_of(chosen, requests_per_s)
    edges, middles = _bins(bin_s, end_s)
    requests, work_s = np.zeros(len(middles)), np.zeros(len(middles))
    for client in chosen:
        arrived = _arrived(client, factor, edges, streams.of(f"arrivals {client.name}"))
        mean, variance = _work(client, middles, work)
        requests += arrived
        work_s += _drawn(arrived, mean, variance, streams.of(f"work {client.name}"))
    return LoadSeries(bin_s=bin_s, requests=requests, work_s=work_s)


def _bins(width_s: float, end_s: float) -> tuple[FloatArray, FloatArray]:
    """The edges of equal bins, and their middles."""
    places = np.arange(math.ceil(end_s / width_s) + 1, dtype=np.float64)
    edges, middles = places * width_s, (places[:-1] + 0.5) * width_s
    return np.asarray(edges, dtype=np.float64), np.asarray(middles, dtype=np.float64)


def _arrived(client: Client, factor: float, edges: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How many requests come between the edges."""
    path = client.path.scaled(factor)
    busy = path.per_s[path.per_s > 0]
    block = max(1, int(BLOCK_S * float(busy.mean()))) if busy.size else 1
    whole, moments = path.requests, [np.zeros(1)]
    while moments[-1][-1] < whole:
        steps = block * gaps(client.cv / math.sqrt(block), _BLOCKS_AT_ONCE, rng)
        moments.append(moments[-1][-1] + np.cumsum(steps))
    at = np.concatenate(moments)
    counted = np.interp(path.expected_until(edges), at, block * np.arange(at.size, dtype=np.float64))
    return np.diff(np.floor(counted))


def _work(client: Client, at_s: FloatArray, work: TokenWork) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of a request's replica-seconds at these times; both days' lengths mixed, as in ``servegen``."""
    days = np.arange(math.ceil(float(at_s[-1]) / DAY_S) + 1)
    lengths = [client.lengths_on(day) for day in days.tolist()]
    mean = np.array(
        [work.of(prefill_tokens=prompt.mean, decode_tokens=answer.mean) for prompt, answer in lengths]
    )
    variance = np.array(
        [
            work.prefill_s**2 * prompt.variance + work.decode_s**2 * answer.variance
            for prompt, answer in lengths
        ]
    )
    middles = (days + 0.5) * DAY_S
    mixed = np.interp(at_s, middles, mean)
    return mixed, np.interp(at_s, middles, variance + mean**2) - mixed**2


def _drawn(
    arrived: FloatArray, mean: FloatArray, variance: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """The work of so many requests."""
    scale = np.divide(variance, mean, out=np.zeros_like(mean), where=mean > 0)
    shape = np.divide(arrived * mean, scale, out=np.zeros_like(mean), where=scale > 0)
    return np.where(scale > 0, rng.standard_gamma(shape) * scale, arrived * mean)
