"""Arrivals that are made: as many as the rate says, as bursty as asked, the same for the same seed and cause."""

import math
from itertools import pairwise

import numpy as np
import pytest

from controlplane.simulation.serving.arrivals import (
    RatePath,
    constant,
    daily,
    flash_crowd,
    mmpp,
    overlaid,
    renewals,
    steps,
)
from controlplane.simulation.serving.batch import Batch, faster, until
from controlplane.simulation.serving.client_series import load_of, mean_work_s
from controlplane.simulation.serving.lengths import Lognormal, Quantiles
from controlplane.simulation.serving.servegen import Client, clients_of, requests_of
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.trace_rows import TraceError
from workloadplane.autoscaling import TokenWork

HOUR_S = 3600.0


def made(path: RatePath, *, cv: float = 1.0, seed: int = 1, name: str = "", at_once: int = 65_536) -> Batch:
    """All requests along a path."""
    found = list(
        renewals(
            path,
            cv=cv,
            inputs=Lognormal(500, 1.0),
            outputs=Lognormal(100, 0.5),
            streams=Streams(seed),
            name=name,
            at_once=at_once,
        )
    )
    for one, two in pairwise(found):
        assert one.at_s[-1] <= two.at_s[0]
    columns = (
        np.concatenate([getattr(batch, field) for batch in found])
        for field in ("at_s", "input_tokens", "output_tokens")
    )
    return Batch(*columns)


def rate(path: RatePath, at_s: np.ndarray) -> np.ndarray:
    """A path's rate at times that are no steps."""
    return np.asarray(np.interp(at_s, path.at_s, path.per_s))


@pytest.mark.parametrize(
    "path",
    [
        constant(5.0, HOUR_S),
        steps([(0.0, 2.0), (1200.0, 0.0), (2400.0, 12.0)], HOUR_S),
        flash_crowd(3.0, 30.0, at_s=600, rise_s=60, hold_s=300, fall_s=600, end_s=HOUR_S),
        daily(6.0, 0.8, peak_s=900.0, end_s=HOUR_S, day_s=HOUR_S),
    ],
    ids=["constant", "steps", "flash crowd", "daily"],
)
def test_each_part_of_the_time_has_as_many_as_its_rate_says(path: RatePath) -> None:
    """Within five standard deviations of a Poisson process, in all and in every ten minutes."""
    at_s = made(path).at_s
    assert np.all(np.diff(at_s) >= 0)
    assert at_s[0] >= 0
    assert at_s[-1] < HOUR_S
    fine = np.linspace(0, HOUR_S, 36_001)
    per_s = rate(path, (fine[1:] + fine[:-1]) / 2)
    for begin in range(0, 3600, 600):
        expected = float(per_s[begin * 10 : (begin + 600) * 10].sum()) * 0.1
        found = int(((at_s >= begin) & (at_s < begin + 600)).sum())
        assert abs(found - expected) <= 5 * math.sqrt(expected) + 1, begin
    assert path.requests == pytest.approx(float(per_s.sum()) * 0.1, rel=0.01)


@pytest.mark.parametrize("cv", [0.3, 1.0, 4.0])
def test_gaps_vary_as_much_as_asked(cv: float) -> None:
    """Below 1 regularly, above in bursts; the mean stays."""
    gaps = np.diff(made(constant(20.0, 4 * HOUR_S), cv=cv).at_s)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.1)


def test_lengths_have_their_mean_and_spread() -> None:
    """Also those given by quantiles."""
    drawn = Lognormal(800, 1.5).draw(200_000, Streams(3).of("a"))
    assert drawn.mean() == pytest.approx(800, rel=0.03)
    assert drawn.std() / drawn.mean() == pytest.approx(1.5, rel=0.1)
    table = Quantiles(np.array([0.0, 0.5, 1.0]), np.array([10.0, 20.0, 100.0]))
    assert table.draw(100_000, Streams(3).of("b")).mean() == pytest.approx(table.mean, rel=0.02)
    assert set(Lognormal(7).draw(10, Streams(1).of("c")).tolist()) == {7}


def test_a_seed_gives_the_same_and_a_cause_its_own() -> None:
    """However it is cut into batches; another seed or another source's name is another stream."""
    path = constant(5.0, 600.0)
    whole = made(path)
    in_parts = made(path, at_once=64)
    assert np.allclose(whole.at_s, in_parts.at_s)
    assert np.array_equal(whole.input_tokens, in_parts.input_tokens)
    for other in (made(path, seed=2), made(path, name="b")):
        assert not np.array_equal(whole.at_s[:50], other.at_s[:50])
    one, two = Streams(1), Streams(1)
    one.of("another cause").random(1000)
    assert one.of("arrivals").random() == two.of("arrivals").random()


def test_states_of_a_modulated_process_are_stayed_in() -> None:
    """A share of the time as long as their mean stay says."""
    path = mmpp([(1.0, 300.0), (10.0, 100.0)], 400_000.0, Streams(5).of("rates"))
    high_s = float(np.diff(path.at_s)[path.per_s[:-1] == 10.0].sum())
    assert high_s / 400_000.0 == pytest.approx(0.25, abs=0.03)


def test_several_sources_are_one_in_order() -> None:
    """Nothing is lost, and whoever is played first is not all of one before another."""
    one, two = made(constant(5.0, 600.0), name="a"), made(constant(1.0, 600.0), name="b")

    def parts(batch: Batch, size: int):
        return (batch.part(first, first + size) for first in range(0, len(batch), size))

    found = list(overlaid([parts(one, 7), parts(two, 50)]))
    at_s = np.concatenate([batch.at_s for batch in found])
    assert np.array_equal(at_s, np.sort(np.concatenate([one.at_s, two.at_s])))
    assert (
        sum(int(batch.input_tokens.sum()) for batch in found)
        == one.input_tokens.sum() + two.input_tokens.sum()
    )
    assert [len(batch) for batch in until([one], float(one.at_s[10]))] == [10]
    assert next(faster([one], 4.0)).at_s[5] == one.at_s[5] / 4


CLIENTS = """client,t,rate,cv,pattern,p1,p2
7,0,2.0,1.0,G,1.0,0.5
7,600,4.0,1.0,G,1.0,0.25
7,6000,1.0,1.0,G,1.0,1.0
8,0,1.0,3.0,W,0.4,0.3
9,0,1.0,1.0,G,1,1
"""
LENGTHS = """client,t,field,q0,q0.5,q1
7,0,input_tokens,100,100,100
7,0,output_tokens,10,10,10
8,0,input_tokens,200,300,400
8,0,output_tokens,20,20,20
"""


def test_servegens_clients_ask_as_their_tables_say() -> None:
    """At their rates and with their lengths; one without lengths has the others' mean, a gap is a gap."""
    clients = clients_of(CLIENTS.splitlines(), LENGTHS.splitlines(), end_s=7200.0)
    assert [client.name for client in clients] == ["7", "8", "9"]
    prompt, answer = clients[2].lengths_on(3)
    assert (prompt.mean, answer.mean) == pytest.approx((125.0, 11.25))
    clients = clients[:2]
    found = list(requests_of(clients, Streams(1)))
    at_s = np.concatenate([batch.at_s for batch in found])
    lengths = np.concatenate([batch.input_tokens for batch in found])
    assert np.all(np.diff(at_s) >= 0)
    assert not ((at_s > 1300) & (at_s < 5900)).any()
    of_seven = int((lengths == 100).sum())
    expected = 600 * (0.5 * 2 / 2 + 0.5 * 3 * 2 / 2 + 0.5 * 4 / 2 + 0.5) + 0
    assert of_seven == pytest.approx(clients[0].path.requests, abs=5 * math.sqrt(expected))
    assert set(lengths.tolist()) - set(range(200, 401)) == {100}
    scaled = requests_of(clients, Streams(1), requests_per_s=10.0)
    assert sum(map(len, scaled)) == pytest.approx(72_000, rel=0.1)


def test_windows_that_nobody_measured_can_be_mended_and_rates_can_be_steps() -> None:
    """Between 3000 and 4200 s no client has a row: straight lines instead of nothing; steps keep a window's rate."""
    rows = [f"7,{at_s},{2.0 if at_s < 3600 else 5.0},1.0,G,1,1" for at_s in range(0, 7200, 600)]
    table = [
        "client,t,rate,cv,pattern,p1,p2",
        *(row for row in rows if ",3000," not in row and ",3600," not in row),
    ]
    mended = clients_of(table, LENGTHS.splitlines(), end_s=7200.0, mended=True)
    plain = clients_of(table, LENGTHS.splitlines(), end_s=7200.0)
    middles = np.array([3300.0, 3600.0, 3900.0])
    assert rate(mended[0].path, middles).tolist() == pytest.approx([3.0, 3.5, 4.0])
    assert rate(plain[0].path, middles).tolist() == [0.0, 0.0, 0.0]
    stepped = clients_of(CLIENTS.splitlines(), LENGTHS.splitlines(), end_s=7200.0, stepped=True)
    rates = rate(stepped[0].path, np.array([10.0, 590.0, 610.0, 1190.0, 1210.0, 6300.0]))
    assert rates.tolist() == [2.0, 2.0, 4.0, 4.0, 0.0, 1.0]
    assert stepped[0].path.requests == pytest.approx(600 * 7.0)


def test_what_is_expected_until_a_time_is_the_rates_area() -> None:
    """It is what ``times_of`` inverts."""
    path = flash_crowd(3.0, 30.0, at_s=600, rise_s=60, hold_s=300, fall_s=600, end_s=HOUR_S)
    at_s = np.linspace(0.0, HOUR_S, 97)
    expected = path.expected_until(at_s)
    assert expected[-1] == pytest.approx(path.requests)
    assert path.times_of(expected[:-1]) == pytest.approx(at_s[:-1])


@pytest.mark.parametrize("cv", [1.0, 6.0])
def test_a_series_of_clients_is_as_bursty_as_their_single_requests(cv: float) -> None:
    """Counts of ten seconds and of five minutes have the mean and the spread of requests drawn one by one."""
    lengths = {0: (Quantiles(np.array([0.0, 1.0]), np.array([100.0, 900.0])),) * 2}
    client = Client("one", constant(60.0, 6 * HOUR_S), cv, lengths)
    series = load_of(
        [client], Streams(1), requests_per_s=60.0, work=TokenWork(), bin_s=10.0, end_s=6 * HOUR_S
    )
    single = np.concatenate([batch.at_s for batch in requests_of([client], Streams(2))])
    counts = np.bincount((single // 10.0).astype(int), minlength=2160).astype(float)
    mean_s = mean_work_s([client], TokenWork())
    assert mean_s == pytest.approx(500 / 8000 + 500 / 2000)
    assert series.work_s.sum() == pytest.approx(series.requests.sum() * mean_s, rel=0.02)
    assert series.requests.mean() == pytest.approx(600.0, rel=0.05)
    for bins in (1, 30):
        made, drawn = (values.reshape(-1, bins).sum(axis=1) for values in (series.requests, counts))
        assert made.std() == pytest.approx(drawn.std(), rel=0.35)


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        ("client,t,rate\n", "table of clients has no column cv"),
        ("client,t,rate,cv\n7,0,-1,1\n", "clients, row 1, rate '-1'"),
        ("client,t,rate,cv\n7,0,x,1\n", "clients, row 1, rate 'x'"),
        ("client,t,rate,cv\n1,0,1,1\n", "no client has both"),
    ],
)
def test_tables_that_are_none_say_so(clients: str, said: str) -> None:
    """With row and column."""
    with pytest.raises(TraceError, match=said):
        clients_of(clients.splitlines(), LENGTHS.splitlines(), end_s=7200.0)


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ("client,t,field,q0,quite,q1\n7,0,input_tokens,1,2,3\n", "columns q0, quite, q1: name quantiles"),
        ("client,t,field,q0,q1,q0.5\n7,0,input_tokens,1,2,3\n", "name quantiles q0 to q1, rising"),
        ("client,t,field,q0,q1\n7,0,input_tokens,1,2,3\n", "lengths, row 1 has more or fewer cells"),
        ("client,t,field,q0,q1\n7,0,input_tokens,1\n", "lengths, row 1 has more or fewer cells"),
    ],
)
def test_lengths_that_are_no_quantiles_say_so(lengths: str, said: str) -> None:
    """A table of something else is told from one that is damaged."""
    with pytest.raises(TraceError, match=said):
        clients_of(CLIENTS.splitlines(), lengths.splitlines(), end_s=7200.0)
