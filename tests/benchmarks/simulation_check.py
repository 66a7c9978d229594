"""The same requests on real processes and in simulation: do both say the same of waits and replicas?

    python -m tests.benchmarks.simulation_check [--policies kpa,predictive] [--json FILE]

A system is brought up as ``make up ENGINE=simulator`` does. A world's requests are written as a trace and asked of one
cluster's gateway by ``meridian load --trace``, each policy's in a region of its own at the same time; what replicas ran
comes from the API, who waited how long from the gateways' access logs. Then ``meridian simulate`` plays the same trace
in both modes, with the cold starts that were seen. Goals: SLO attainment within 2 points, replica-hours within 5 %.
Some thirteen minutes, a core of it busy.
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.system import System, start, stop
from tests.support.state_folder import state_folder
from tests.support.waiting import eventually

SLO_POINTS, REPLICA_HOURS_SHARE = 2.0, 0.05
SEATS, PREFILL_TOKENS_PER_S, STEP_S = 4, 2500, 0.05
#: What the engine is told, and beside it how long a launch takes besides its process.
ENGINE = {
    "max_num_seqs": f"{SEATS}",
    "prefill_tokens_per_s": f"{PREFILL_TOKENS_PER_S}",
    "decode_step_s": f"{STEP_S}",
    "decode_step_per_sequence_s": "0",
    "weight_load_s": "6",
    "engine_start_s": "4",
}
#: Of the machines that the cluster has for it one may be in use: with more than this it is their number that bounds.
MIN_REPLICAS, MAX_REPLICAS = 2, 6
WINDOW_S, DELAY_S, WAIT_S, HOURS = 20, 40, 2.0, 11 / 60
#: Policies beyond these wait until a region is free.
JURISDICTIONS = ("eu", "us")
SCALING = {
    "min_replicas": MIN_REPLICAS,
    "max_replicas": MAX_REPLICAS,
    "autoscaling_window_s": WINDOW_S,
    "scale_down_delay_s": DELAY_S,
    "concurrency_target": SEATS,
}
#: A quiet minute, in which an agent learns what a request costs (worlds know), and ten more: steps of up to five times
#: what there was without notice, and back, twice. Before the first step the least replicas clearly do: near a third one
#: an estimate that is 5 % off decides whether that is there when the step comes, and so for 4 % of all requests.
WORLD: dict[str, Any] = {
    "name": "held against real processes",
    "seed": 11,
    "hours": HOURS,
    "arrivals": [
        {
            "kind": "steps",
            "levels": [
                {"at_s": 0, "requests_per_s": 0.8},
                {"at_s": 60, "requests_per_s": 1.2},
                {"at_s": 120, "requests_per_s": 4.0},
                {"at_s": 190, "requests_per_s": 6.0},
                {"at_s": 260, "requests_per_s": 1.6},
                {"at_s": 380, "requests_per_s": 3.2},
                {"at_s": 450, "requests_per_s": 5.0},
                {"at_s": 520, "requests_per_s": 2.4},
                {"at_s": 600, "requests_per_s": 1.6},
            ],
        }
    ],
    "lengths": {"input": {"mean": 100, "cv": 0.5}, "output": {"mean": 50, "cv": 0.5}},
    "service": {
        "seats": SEATS,
        "prefill_base_s": 0.0,
        "prefill_s_per_token": 1 / PREFILL_TOKENS_PER_S,
        "itl_base_s": STEP_S,
    },
    "pools": [{"name": "a", "procurement": "on_demand", "replicas": MAX_REPLICAS, "usd_per_replica_h": 1}],
    "autoscaling": SCALING,
    "slo": {"wait_s": WAIT_S},
    "failures": {"gpu_failures_per_gpu_h": 0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one way of finding out says. ``launches``: of replicas, beyond those that were there at first."""

    requests: int
    within_slo: float
    replica_hours: float
    launches: int
    not_served: int
    most_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A replica from its launch to its end, in seconds since 1970; ``cold_start_s`` None if it never was ready."""

    begun: float
    ended: float
    cold_start_s: float | None


def main() -> int:
    """1 if a goal was missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policies", default="kpa,predictive")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    rows = []
    sys.stdout.write(f"load of this machine as it begins: {os.getloadavg()[0]:.1f}\n\n{_HEAD}")
    with state_folder("var") as state:
        system = start(state, "simulator")
        try:
            _engine_image(system)
            trace = _trace(system)
            for policy, real, cold_start_s in _all_really(system, options.policies.split(","), trace):
                for mode in ("request", "fluid"):
                    simulated = _simulated(system, policy, mode, trace, cold_start_s)
                    rows.append(_row(policy, mode, real, simulated, cold_start_s))
        finally:
            stop(system)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return int(not all(row["met"] for row in rows))


_HEAD = (
    "| policy | | requests | within SLO | replica-h | launches | at most | not served | SLO, points | replica-h | |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n"
)


def _row(policy: str, mode: str, real: Told, simulated: Told, cold_start_s: float) -> dict[str, Any]:
    points = 100 * (simulated.within_slo - real.within_slo)
    share = simulated.replica_hours / real.replica_hours - 1
    met = abs(points) <= SLO_POINTS and abs(share) <= REPLICA_HOURS_SHARE
    if mode == "request":
        sys.stdout.write(_line(policy, f"real, cold starts {cold_start_s:.1f} s", real, "", "", ""))
    verdict = "met" if met else "missed"
    sys.stdout.write(_line(policy, mode, simulated, f"{points:+.2f}", f"{100 * share:+.1f} %", verdict))
    sys.stdout.flush()
    return {
        "policy": policy,
        "mode": mode,
        "real": asdict(real),
        "simulated": asdict(simulated),
        "cold_start_s": cold_start_s,
        "met": met,
    }


def _line(policy: str, what: str, told: Told, *more: str) -> str:
    figures = (
        f"{told.requests}",
        f"{100 * told.within_slo:.2f} %",
        f"{told.replica_hours:.4f}",
        f"{told.launches}",
        f"{told.most_replicas}",
        f"{told.not_served}",
    )
    return f"| {' | '.join((policy, what, *figures, *more))} |\n"


# What is asked, and of what


def _trace(system: System) -> Path:
    """The world's requests."""
    world, trace = system.state.parent / "world.json", system.state.parent / "trace.csv"
    world.write_text(json.dumps({**WORLD, "cold_start": {"engine_start": {"mean_s": 1}}}))
    done = system.command("simulate", "--world", f"{world}", "--write-trace", f"{trace}")
    assert done.returncode == 0, done.stderr
    return trace


def _engine_image(system: System) -> None:
    """An image of the simulated engine with these speeds: the newest is what new deployments run."""
    with _administrator(system) as client:
        digest = f"sha256:{os.urandom(32).hex()}"
        image = {"engine": "simulator", "version": "0.1.0", "digest": digest, "arguments": ENGINE}
        answer = client.post("/api/v1/engine-images", json=image)
        assert answer.status_code == 201, answer.text


@contextmanager
def _administrator(system: System) -> Iterator[httpx.Client]:
    """Logged in as a browser is."""
    endpoints = system.endpoints()
    with httpx.Client(base_url=endpoints["api"], follow_redirects=True, timeout=30) as client:
        page = client.get("/login").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, page[:500]
        form = {
            "username": endpoints["admin_user"],
            "password": endpoints["admin_password"],
            "csrfmiddlewaretoken": token[1],
        }
        headers = {"referer": endpoints["api"]}
        assert client.post("/login", data=form, headers=headers).status_code == 200
        client.headers.update({"x-csrftoken": client.cookies["csrftoken"], **headers})
        yield client


# On real processes


def _all_really(system: System, policies: Sequence[str], trace: Path) -> Iterator[tuple[str, Told, float]]:
    """Of each policy what came of it, and the mean cold start; as many at once as there are regions."""
    for first in range(0, len(policies), len(JURISDICTIONS)):
        together = policies[first : first + len(JURISDICTIONS)]
        with ThreadPoolExecutor(len(together)) as pool:
            asked = [
                pool.submit(_really, system, policy, trace, jurisdiction)
                for policy, jurisdiction in zip(together, JURISDICTIONS, strict=False)
            ]
        yield from ((policy, *one.result()) for policy, one in zip(together, asked, strict=True))


def _really(system: System, policy: str, trace: Path, jurisdiction: str) -> tuple[Told, float]:
    """What came of it, and the mean cold start."""
    name = f"check-{policy}"
    system.deploy(
        name=name,
        model="tiny-llama",
        engine="simulator",
        residency=[jurisdiction],
        autoscaling={**SCALING, "policy": policy},
        slo={"ttft_s_p95": WAIT_S + 0.15},
    )
    eventually(
        lambda: sum(each["state"] == "ready" for each in system.replicas(name)) == MIN_REPLICAS,
        within_s=120,
        what="the least replicas are ready",
    )
    region = system.region_in(jurisdiction)
    gateway = system.endpoints()["gateways"][region]
    since = time.time()
    arguments = ("load", "--deployment", name, "--trace", f"{trace}", "-o", "json")
    done = system.command(*arguments, "--url", gateway, within_s=HOURS * 3600 + 600)
    assert done.returncode in (0, 1), done.stderr  # 1: some requests failed, and they count
    told = json.loads(done.stdout)
    lines = eventually(
        lambda: _access_lines(system, name, since, told["requests"]), what="all requests are in the log"
    )
    begun = min(line["time"] - line["duration_s"] for line in lines)
    ended = begun + _seconds(trace)
    spans = _spans(system, name, ended)
    system.delete(name)
    for line in lines:
        if line["status"] != 200:
            sys.stderr.write(f"{policy}, not served: {json.dumps(line)}\n")
    sys.stderr.write(
        f"{policy}, replicas from their launch to their end, s: "
        + ", ".join(f"{s.begun - begun:.1f} to {s.ended - begun:.1f}" for s in sorted(spans, key=_begun))
        + "\n"
    )
    served = [line for line in lines if line["status"] == 200]
    sys.stderr.write(
        f"{policy}, in the mean: {statistics.mean(line['input_tokens'] for line in served):.1f} tokens read, "
        f"{statistics.mean(line['output_tokens'] for line in served):.1f} made, "
        f"{statistics.mean(line['duration_s'] - line['queue_s'] for line in served):.2f} s with a replica\n"
    )
    inside = sum(line["status"] == 200 and line["queue_s"] <= WAIT_S for line in lines)
    at_first = sum(span.begun < begun for span in spans)
    real = Told(
        requests=len(lines),
        within_slo=inside / len(lines),
        replica_hours=sum(max(0.0, min(s.ended, ended) - max(s.begun, begun)) for s in spans) / 3600,
        launches=len(spans) - at_first,
        not_served=sum(line["status"] != 200 for line in lines),
        most_replicas=_most(spans, begun, ended),
    )
    return real, statistics.mean(s.cold_start_s for s in spans if s.cold_start_s is not None)


def _seconds(trace: Path) -> float:
    """As ``meridian simulate`` takes a trace to last: until two seconds after the last request."""
    times = [float(line.split(",")[0]) for line in trace.read_text().splitlines()[1:]]
    return times[-1] - times[0] + 2.0


def _access_lines(system: System, name: str, since: float, count: int) -> list[dict[str, Any]]:
    """Of what this deployment was asked since then; none before all of them are there."""
    lines = [
        json.loads(line)
        for log in (system.state / "log").glob("gateway-*.log")
        for line in log.read_text(errors="replace").splitlines()
        if f'"deployment":"{name}"' in line and '"queue_s"' in line
    ]
    found = [line for line in lines if line["time"] - line["duration_s"] >= since]
    return found if len(found) >= count else []


def _spans(system: System, name: str, ended: float) -> list[Span]:
    """All replicas that ever were, those that are gone too."""
    rows: list[dict[str, Any]] = []
    with system.api() as client:
        for present in ("true", "false"):
            answer = client.get(f"/deployments/{name}/replicas", params={"present": present, "limit": 100})
            assert answer.status_code == 200, answer.text
            rows += answer.json()["items"]
    return [_span(row, ended) for row in rows]


def _begun(span: Span) -> float:
    return span.begun


def _span(row: Mapping[str, Any], ended: float) -> Span:
    begun, ready, stopped = (_moment(row[key]) for key in ("started_at", "ready_at", "stopped_at"))
    assert begun is not None
    return Span(
        begun=begun,
        ended=ended if stopped is None else stopped,
        cold_start_s=None if ready is None else ready - begun,
    )


def _moment(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _most(spans: Sequence[Span], begun: float, ended: float) -> int:
    moments = [max(span.begun, begun) for span in spans if span.begun < ended]
    return max(sum(span.begun <= at < span.ended for span in spans) for at in moments)


# In simulation


def _simulated(system: System, policy: str, mode: str, trace: Path, cold_start_s: float) -> Told:
    folder = system.state.parent
    world = {name: value for name, value in WORLD.items() if name not in ("hours", "lengths")}
    world |= {
        "mode": mode,
        "arrivals": [{"kind": "trace", "file": trace.name}],
        "cold_start": {"engine_start": {"mean_s": cold_start_s}},
    }
    (folder / "replayed.json").write_text(json.dumps(world))
    out = folder / f"{policy}-{mode}"
    arguments = ("--world", f"{folder / 'replayed.json'}", "--policy", policy, "--out", f"{out}")
    done = system.command("simulate", *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    row = json.loads((out / "results.json").read_text())["policies"][0]
    return Told(
        requests=row["requests"],
        within_slo=row["within_slo"],
        replica_hours=row["replica_hours"],
        launches=row["launches"],
        not_served=row["not_served"],
        most_replicas=round(max(each["ready"] + each["starting"] for each in row["moments"])),
    )


if __name__ == "__main__":
    sys.exit(main())
