"""A world's document: what is wrong is named by its field, with its value and what to give."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import Moment, Outcome
from controlplane.simulation.serving.policies_document import choices_of
from controlplane.simulation.serving.report import html_report
from controlplane.simulation.serving.results import as_json, outcomes_in, summary_csv, timeline_csv
from controlplane.simulation.serving.world import files_of
from controlplane.simulation.serving.world_document import USUAL, world_of
from tests.controlplane.simulation.serving.worlds import DOCUMENT, outcomes, seen_of, world

WORLDS = Path(__file__).parents[4] / "docs" / "worlds"


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small world with one field otherwise (``None``: left away)."""
    document = copy.deepcopy(DOCUMENT)
    *way, last = (int(part) if part.isdecimal() else part for part in path.split("/"))
    inner: Any = document
    for part in way:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("hours", 0, "hours 0: give a number above 0"),
        ("hours", None, "hours is missing: arrivals[0] of kind steps has no end by itself; give hours"),
        ("hours", 100_000, "hours 100000: give a number above 0, 2400 at most"),
        ("name", None, "name is missing: give a text"),
        ("seed", 1.5, "seed 1.5: give a whole number"),
        ("pools/0/usd_per_replica_h", -3, "pools[0].usd_per_replica_h -3: give a number of 0 or more"),
        (
            "pools/0/procurement",
            "stolen",
            "pools[0].procurement 'stolen': give one of: reserved, on_demand, spot",
        ),
        ("pools/0/replicas", True, "pools[0].replicas True: give a number of 1 or more"),
        ("pools", [], "pools []: give a list of one or more objects"),
        (
            "pools/0/colour",
            "blue",
            "pools[0].colour 'blue': no such field; there are: hazard_per_h, instance_type, name",
        ),
        ("arrivals/0/kind", "often", "arrivals[0].kind 'often': give one of: poisson, gamma, daily"),
        ("arrivals/0/levels/1/at_s", 0, "arrivals[0].levels[1].at_s 0.0: give rising times, the first one 0"),
        (
            "arrivals/0/levels/0/requests_per_s",
            float("nan"),
            "requests_per_s nan: give a number of 0 or more",
        ),
        ("lengths", None, "lengths is missing: arrivals[0] of kind steps has none of its own"),
        ("service/seats", 0, "service.seats 0: give a number of 1 or more"),
        (
            "service/itl_base_s",
            0,
            "service: itl_base_s 0.0, itl_s_per_request 0.0: one of them must be above 0",
        ),
        (
            "service",
            {"seats": 4, "prefill": [[1, 2]], "decode": []},
            "service.prefill [[1, 2]]: give a list of two",
        ),
        (
            "service",
            {"seats": 4, "prefill": [[1, 2], [2, "x"]], "decode": []},
            "service.prefill[1] [2, 'x']: give a",
        ),
        (
            "service",
            {"seats": 4, "prefill": [[1, 2], [1, 2]], "decode": [[1, 2], [2, 2]]},
            "service: prefill has 2 points: give at least two different ones",
        ),
        ("cold_start", {}, "cold_start has no phase: give one or more of: gpu_procurement"),
        (
            "autoscaling/min_replicas",
            13,
            "autoscaling.min_replicas 13: give a number of 0 or more, 12 at most",
        ),
        ("autoscaling/max_replicas", 1, "autoscaling: min_replicas 2, max_replicas 1: give 0 <= min <= max"),
        ("policies", {"kpa": {}}, "policies.kpa: this name is taken"),
        ("policies", {"slow": {"kind": "magic"}}, "policies.slow.kind 'magic': give one of: predictive, kpa"),
        ("decide_every_s", 1e-9, "decide_every_s 1e-09: give a number of 0.1 or more"),
        ("mode", "fast", "mode 'fast': give one of: auto, request, fluid"),
        ("weather", "rain", "weather 'rain': no such field"),
        (
            "arrivals",
            [{"kind": "trace", "file": "a.parquet"}],
            "trace 'a.parquet': give a file that ends in .csv",
        ),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, said: str) -> None:
    """One sentence."""
    with pytest.raises(WorldError) as error:
        world_of(changed(path, value))
    assert said in str(error.value)


def test_a_known_field_with_nothing_in_it_is_left_away_and_an_unknown_one_is_not() -> None:
    """As YAML has it where a value is commented out."""
    emptied = {**DOCUMENT, "placement": None, "failures": {**DOCUMENT["failures"], "plane_lost": None}}
    assert replace(world_of(emptied), sources=()) == replace(world_of(DOCUMENT), sources=())
    with pytest.raises(WorldError, match=r"weather is missing: no such field"):
        world_of({**DOCUMENT, "weather": None})


def test_a_replica_can_be_given_by_what_was_measured() -> None:
    """Points of prompts and of steps, in seconds."""
    measured = {"seats": 8, "prefill": [[100, 0.02], [1100, 0.12]], "decode": [[1, 0.03], [8, 0.037]]}
    service = world(service=measured).service
    assert service.prefill_s(600) == pytest.approx(0.07)
    assert service.itl_s(4) == pytest.approx(0.033)


def test_a_document_that_is_none_says_so() -> None:
    """A list, a text."""
    with pytest.raises(WorldError, match=r"the world \[\]: give an object"):
        world_of([])


def test_policies_are_found_by_name() -> None:
    """Those of the world inherit what they do not say."""
    played = world(policies={"slow": {"kind": "kpa", "scale_down_delay_s": 900}})
    slow, kpa = (choices_of(played, name)[0].policy for name in ("slow", "kpa"))
    assert (slow.kind, slow.scale_down_delay_s, kpa.scale_down_delay_s) == ("kpa", 900, 60)
    assert slow.target_utilisation == kpa.target_utilisation == 0.8
    fixed = choices_of(played, "static:3")[0].policy
    assert (fixed.min_replicas, fixed.max_replicas) == (3, 3)
    for wrong in ("static:13", "static:0", "static:x", "static:" + 5000 * "9", "magic"):
        with pytest.raises(WorldError, match=wrong):
            choices_of(played, wrong)


def test_a_trace_takes_the_place_of_a_worlds_requests() -> None:
    """Alone it is played with what is usual."""
    assert files_of(world_of(DOCUMENT, trace="/tmp/a.csv.gz")) == ("/tmp/a.csv.gz",)
    alone = world_of(USUAL, trace="b.jsonl")
    assert alone.end_s is None
    assert files_of(alone) == ("b.jsonl",)


def test_the_worlds_in_the_documentation_can_be_read() -> None:
    """Each of them, with every policy it names."""
    found = sorted(WORLDS.glob("*.yaml"))
    assert found
    for path in found:
        played = world_of(yaml.safe_load(path.read_text()))
        assert {"predictive", "kpa"} <= set(played.policies)
        for name in files_of(played):
            assert (WORLDS / name).exists()


def test_results_are_the_same_bytes_and_can_be_read_again() -> None:
    """JSON that a later run goes on from, CSV with a row a policy and a row a moment."""
    played = world(mode="request", hours=0.02)
    found = list(outcomes(played, "kpa", "static:3"))
    text = as_json(played, seen_of(played), found, "abc")
    assert text == as_json(played, seen_of(played), list(outcomes(played, "kpa", "static:3")), "abc")
    assert outcomes_in(text.encode(), "abc") == {each.policy: each for each in found}
    assert outcomes_in(text.encode(), "another world") == {}
    assert outcomes_in(b"{", "abc") == {}
    assert msgspec.json.decode(text)["runs"].keys() == {"request"}
    assert [line.split(",")[0] for line in summary_csv(found).splitlines()] == ["policy", "kpa", "static:3"]
    assert len(timeline_csv(found).splitlines()) == 1 + sum(len(each.moments) for each in found)


def test_a_report_needs_nothing_else_and_shows_every_policy() -> None:
    """No script, no address; what comes from outside is text."""
    played = world(name="<b>bold</b>", mode="request", hours=0.02)
    seen = seen_of(played)
    seen.notes = ("a note with <i>",)
    found = list(outcomes(played, "kpa", "static:3"))
    found[0].broken = ["rule 4: too many"]
    page = html_report(played, seen, found, "d" * 64)
    assert page.count('role="img"') == 3 + 2
    for text in (
        "kpa",
        "static:3",
        "&lt;b&gt;bold",
        "a note with &lt;i&gt;",
        "rule 4: too many",
        "waiting room",
    ):
        assert text in page
    for text in ("<script", "http", "<b>bold", "src=", "@import", "url("):
        assert text not in page


def test_a_report_of_nothing_is_a_page() -> None:
    """An outcome without moments or percentiles."""
    played = world()
    page = html_report(played, seen_of(played), [Outcome(policy="none", mode="fluid")], "")
    assert "–" in page
    one = Outcome(policy="one", mode="fluid", moments=[Moment(0.0, 1.0, 1.0, 1.0, 0.0)])
    assert "one" in html_report(played, seen_of(played), [one], "")
