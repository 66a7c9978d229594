"""Traces of production as series of load. All take a path; where figures are shown their sources are cited.

ServeGen (Alibaba, alibaba/ServeGen, Apache-2.0), Azure LLM inference 2023 (Azure/AzurePublicDataset, CC-BY; Patel et
al., Splitwise, ISCA 2024), Mooncake (kvcache-ai/Mooncake, Apache-2.0; Qin et al., FAST 2025).
"""

import csv
import gzip
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from controlplane.simulation.serving.series import FloatArray, LoadSeries, series_of
from workloadplane.autoscaling import TokenWork

WINDOW_S = 600.0
DAY_S = 86_400.0
DAYS = 14
WINDOWS = int(DAYS * DAY_S / WINDOW_S)
#: A window with less than this share of the median of all is a gap in the measurement.
GAP_SHARE = 0.05
WORK = TokenWork()


@dataclass(frozen=True)
class Deployment:
    """How much of a trace one deployment gets, and how many replicas its mean load keeps busy.

    Its clients are like the trace's, with smaller rates and the same coefficients of variation. ``thinned``: each
    request of the trace's own clients comes here by chance instead, which evens bursts out.
    """

    requests_per_s: float = 175.0
    replicas: float = 12.0
    thinned: bool = False


def servegen(
    folder: Path, model: str, *, bin_s: float, seed: int, steps: bool = False, size: Deployment | None = None
) -> LoadSeries:
    """Two weeks of one deployment with one model's clients.

    Each client is a gamma renewal process with its typical coefficient of variation, its rate interpolated between the
    middles of the ten-minute windows (``steps``: constant within them). Its counts in bins are a negative binomial's of
    the same dispersion: bursts of a process with a large coefficient come within less than a bin. Gaps in the
    measurement are interpolated.
    """
    size = size or Deployment()
    rng = np.random.default_rng(seed)
    rates, cvs = _clients(folder / f"{model}-clients.csv.gz")
    share = size.requests_per_s / float(rates.sum(axis=0).mean())
    means, variances = _request_work(folder / f"{model}-length-quantiles.csv.gz", len(rates))
    count = int(DAYS * DAY_S / bin_s)
    middles = (np.arange(count) + 0.5) * bin_s
    window = np.minimum((middles / WINDOW_S).astype(int), WINDOWS - 1)
    day = np.minimum((middles / DAY_S).astype(int), DAYS - 1)
    requests, work = np.zeros(count), np.zeros(count)
    for client, (rate, cv) in enumerate(zip(rates, cvs, strict=True)):
        if not rate.any():
            continue
        at = rate[window] if steps else np.interp(middles, (np.arange(WINDOWS) + 0.5) * WINDOW_S, rate)
        thinned = share if size.thinned else 1.0
        dispersion = 1.0 + thinned * (_typical(cv, rate) ** 2 - 1.0)
        arrived = _dispersed(at * bin_s * share, dispersion, rng)
        mean, variance = means[client, day], variances[client, day]
        drawn = arrived * mean + np.sqrt(arrived * variance) * rng.standard_normal(count)
        requests += arrived
        work += np.maximum(drawn, 0.05 * arrived * mean)
    work *= size.replicas * bin_s / float(work.mean())
    return LoadSeries(bin_s=bin_s, requests=requests, work_s=work)


def _clients(path: Path) -> tuple[FloatArray, FloatArray]:
    """Rates and coefficients of variation, by client and window, gaps interpolated."""
    with gzip.open(path, "rt") as lines:
        rows = [
            (
                int(row["client"]),
                int(float(row["t"]) // WINDOW_S),
                float(row["rate"]),
                float(row["cv"] or 1.0),
            )
            for row in csv.DictReader(lines)
        ]
    clients = max(row[0] for row in rows) + 1
    rates, cvs = np.zeros((clients, WINDOWS)), np.ones((clients, WINDOWS))
    for client, window, rate, cv in rows:
        if 0 <= window < WINDOWS and np.isfinite(rate):
            rates[client, window] = rate
            cvs[client, window] = cv if np.isfinite(cv) and cv > 0 else 1.0
    total = rates.sum(axis=0)
    sound = np.flatnonzero(total >= GAP_SHARE * np.median(total))
    for client in range(clients):
        rates[client] = np.interp(np.arange(WINDOWS), sound, rates[client, sound])
    return rates, cvs


def _request_work(path: Path, clients: int) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of a request's work by client and day; the client's, then everybody's where unknown."""
    means, variances = np.full((2, clients, DAYS), np.nan), np.full((2, clients, DAYS), np.nan)
    with gzip.open(path, "rt") as lines:
        reader = csv.reader(lines)
        levels = np.array([float(name[1:]) for name in next(reader)[3:]])
        shares = np.diff(levels)
        for row in reader:
            client, day = int(row[0]), int(float(row[1]) // DAY_S)
            field = ("input_tokens", "output_tokens").index(row[2])
            if client >= clients or not 0 <= day < DAYS:
                continue
            values = np.array([float(value) for value in row[3:]])
            middles = (values[1:] + values[:-1]) / 2.0
            mean = float((middles * shares).sum())
            means[field, client, day] = mean
            variances[field, client, day] = float((middles**2 * shares).sum()) - mean**2
    costs = np.array([WORK.prefill_s, WORK.decode_s])[:, None, None]
    return (_filled(means) * costs).sum(axis=0), (_filled(variances) * costs**2).sum(axis=0)


def _filled(values: FloatArray) -> FloatArray:
    everybody = np.nanmean(values, axis=(1, 2), keepdims=True)
    known = ~np.isnan(values)
    sums = np.where(known, values, 0.0).sum(axis=2, keepdims=True)
    counts = known.sum(axis=2, keepdims=True)
    own = np.where(counts > 0, sums / np.maximum(counts, 1), everybody)
    return np.where(known, values, own)


def _typical(values: FloatArray, weights: FloatArray) -> float:
    """The weighted median: a trend within a window makes its coefficient large, and is in the rates already."""
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2.0)])


def _dispersed(means: FloatArray, dispersion: float, rng: np.random.Generator) -> FloatArray:
    """Negative binomial counts with these means whose variance is ``dispersion`` times the mean.

    The shape is at least 1: some clients send a batch in a quarter of an hour and nothing in the rest of the day; their
    coefficient of variation, taken for all bins, would put the batch into one of them.
    """
    if dispersion <= 1.001:
        return rng.poisson(means).astype(np.float64)
    shape = np.maximum(means / (dispersion - 1.0), 1.0)
    return rng.poisson(rng.standard_gamma(shape) * means / shape).astype(np.float64)


def azure(path: Path, *, bin_s: float, times: int) -> LoadSeries:
    """An hour of Azure's requests, every one ``times`` times over."""
    arrived, work = [], []
    with path.open() as lines:
        for row in csv.DictReader(lines):
            arrived.append(datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp())
            work.append(
                WORK.of(
                    prefill_tokens=float(row["ContextTokens"]), decode_tokens=float(row["GeneratedTokens"])
                )
            )
    at = np.array(arrived) - min(arrived)
    return _repeated(at, np.array(work), bin_s, times)


def mooncake(path: Path, *, bin_s: float) -> LoadSeries:
    """An hour of Mooncake's requests, prompts prefilled whole (what a prefix cache saves is not counted)."""
    arrived, work = [], []
    with path.open() as lines:
        for line in lines:
            row = json.loads(line)
            arrived.append(row["timestamp"] / 1000.0)
            work.append(WORK.of(prefill_tokens=row["input_length"], decode_tokens=row["output_length"]))
    return _repeated(np.array(arrived), np.array(work), bin_s, 1)


def _repeated(arrived: FloatArray, work: FloatArray, bin_s: float, times: int) -> LoadSeries:
    series = series_of(arrived, work, bin_s=bin_s, end_s=float(arrived.max()) + bin_s)
    return LoadSeries(bin_s=bin_s, requests=series.requests * times, work_s=series.work_s * times)


def twice(series: LoadSeries) -> LoadSeries:
    """The series after itself: the first time to learn, the second to be judged by."""
    return LoadSeries(
        bin_s=series.bin_s, requests=np.tile(series.requests, 2), work_s=np.tile(series.work_s, 2)
    )
