"""Traces of production as series of load. All take a path; where figures are shown their sources are cited.

ServeGen (Alibaba, alibaba/ServeGen, Apache-2.0), Azure LLM inference 2023 (Azure/AzurePublicDataset, CC-BY; Patel et
al., Splitwise, ISCA 2024), Mooncake (kvcache-ai/Mooncake, Apache-2.0; Qin et al., FAST 2025).
"""

import csv
import gzip
import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np

from controlplane.simulation.serving.client_series import load_of, mean_work_s
from controlplane.simulation.serving.series import FloatArray, LoadSeries, series_of
from controlplane.simulation.serving.servegen import clients_of
from controlplane.simulation.serving.streams import Streams
from workloadplane.autoscaling import TokenWork

DAY_S = 86_400.0
DAYS = 14
#: How many replicas the mean load of a deployment keeps busy.
REPLICAS = 12.0
WORK = TokenWork()


@lru_cache(maxsize=4)
def servegen(
    folder: Path, model: str, *, bin_s: float, seed: int, steps: bool = False, replicas: float = REPLICAS
) -> LoadSeries:
    """Two weeks of one deployment with one model's clients, windows that were not measured mended.

    Its size is in replicas; how many requests a second that are follows from their lengths by the first costs of
    tokens. All clients' rates are scaled to that, as ServeGen's own generator does. ``steps``: rates as they were
    recorded, constant for ten minutes.
    """
    rates, lengths = folder / f"{model}-clients.csv.gz", folder / f"{model}-length-quantiles.csv.gz"
    with gzip.open(rates, "rt") as rate_lines, gzip.open(lengths, "rt") as length_lines:
        clients = clients_of(rate_lines, length_lines, end_s=DAYS * DAY_S, mended=True, stepped=steps)
    return load_of(
        clients,
        Streams(seed),
        requests_per_s=replicas / mean_work_s(clients, WORK),
        work=WORK,
        bin_s=bin_s,
        end_s=DAYS * DAY_S,
    )


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
