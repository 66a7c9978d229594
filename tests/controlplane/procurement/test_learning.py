"""What recorded lives and losses teach of pools."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.procurement.learning import (
    HeldSpan,
    Launched,
    Learned,
    LearningPolicy,
    PoolStated,
    TakenBack,
    instances_by_h,
    learn,
)

H = 3600.0
POLICY = LearningPolicy(prior_h=24, half_life_h=1e9)


def pool(name: str = "p", group: str = "g@a", hazard: float = 0.05, obtainability: float = 0.8) -> PoolStated:
    return PoolStated(pool_id=name, group=group, hazard_per_h=hazard, obtainability=obtainability)


def span(since_h: float, until_h: float | None, instances: float = 1, name: str = "p") -> HeldSpan:
    until_s = None if until_h is None else until_h * H
    return HeldSpan(pool_id=name, since_s=since_h * H, until_s=until_s, instances=instances)


def taken(at_h: float, instances: float | None = 1, name: str = "p") -> TakenBack:
    return TakenBack(pool_id=name, at_s=at_h * H, instances=instances)


def learned(
    pools: Sequence[PoolStated],
    held: Iterable[HeldSpan] = (),
    taken_back: Iterable[TakenBack] = (),
    launched: Iterable[Launched] = (),
    *,
    now_h: float = 100.0,
    policy: LearningPolicy = POLICY,
) -> Mapping[str, Learned]:
    return learn(pools, held=held, taken_back=taken_back, launched=launched, now_s=now_h * H, policy=policy)


def hazard(
    pools: Sequence[PoolStated],
    held: Iterable[HeldSpan] = (),
    taken_back: Iterable[TakenBack] = (),
    *,
    now_h: float = 100.0,
    policy: LearningPolicy = POLICY,
) -> float:
    found = learned(pools, held, taken_back, now_h=now_h, policy=policy)["p"].hazard_per_h
    assert found is not None
    return found


def test_what_was_never_seen_is_left_as_it_is_stated():
    found = learned([pool()], held=[span(0, None, name="other")], taken_back=[taken(1)])["p"]
    assert (found.hazard_per_h, found.obtainability) == (None, None)


def test_hours_without_a_loss_lower_the_hazard_and_a_loss_raises_it():
    calm = hazard([pool()], [span(0, None), span(0, 50)])
    assert calm == pytest.approx(0.05 * 24 / 124)
    lost = hazard([pool()], [span(0, None)], [taken(50)])
    assert lost == pytest.approx((0.05 * 24 + 1) / 124)


def test_what_goes_together_is_one_event_and_a_part_of_it_is_a_part():
    held = [span(0, None, 4)]
    bunch = [taken(50 + minute / 60) for minute in range(3)]
    assert hazard([pool()], held, bunch) == pytest.approx((0.05 * 24 + 3 / 4) / 124)
    apart = [taken(50 + hour) for hour in range(3)]
    assert hazard([pool()], held, apart) == pytest.approx((0.05 * 24 + 3 / 4) / 124)
    whole = hazard([pool()], held, [taken(50, None)])
    assert whole == pytest.approx((0.05 * 24 + 1) / 124)


def test_pools_of_one_zone_and_type_learn_from_each_other():
    pools = [pool("p"), pool("q"), pool("r", group="g@b")]
    found = learned(pools, [span(0, None)], [taken(50)])
    assert found["q"].hazard_per_h == found["p"].hazard_per_h
    assert found["r"].hazard_per_h is None


def test_old_evidence_fades():
    policy = LearningPolicy(prior_h=24, half_life_h=10)
    now = hazard([pool()], [span(0, 100)], [taken(99.9)], policy=policy)
    later = hazard([pool()], [span(0, 100)], [taken(99.9)], now_h=500, policy=policy)
    assert now > later == pytest.approx(0.05, rel=0.01)


def launches(rows: Iterable[tuple[float, bool]], name: str = "p") -> list[Launched]:
    return [Launched(pool_id=name, at_s=at_h * H, had=had) for at_h, had in rows]


def obtainability(rows: Iterable[tuple[float, bool]]) -> float:
    found = learned([pool()], launched=launches(rows))["p"].obtainability
    assert found is not None
    return found


def test_launches_teach_obtainability():
    rows = [(50, True), (60, False), (70, False), (80, False)]
    assert obtainability(rows) == pytest.approx((8 + 1) / 14)


def test_of_what_is_asked_for_at_once_the_share_that_was_had_is_one_trial():
    rows = [(90 + place * 1e-6, had) for place, had in enumerate((True, False, False, False))]
    assert obtainability(rows) == pytest.approx((8 + 1 / 4) / 11)


def test_a_gap_teaches_by_its_length_however_often_somebody_tried():
    """An hour without, at the end of which one is had: a first refusal, and half of what two hours would say."""
    believed = [
        obtainability([(90 + place / tries, False) for place in range(tries)] + [(91, True)])
        for tries in (60, 240, 3600)
    ]
    assert believed == pytest.approx([8 / 11.5] * 3, abs=0.01)
    long = obtainability([(60 + place / 60, False) for place in range(24 * 60)])
    assert long == pytest.approx(8 / 23, abs=0.01)


def test_pools_of_one_zone_and_type_are_one_gap():
    pools = [pool("p"), pool("q")]
    rows = [*launches([(90, False)]), *launches([(90.1, False)], name="q")]
    found = learned(pools, launched=rows)
    assert found["p"] == found["q"]
    assert found["p"].obtainability == pytest.approx(8 / 11.05)


def test_a_random_moment_is_had_as_often_as_is_believed():
    """A pool that has some three hours in four, asked every day and a bit until there is one, by the minute."""
    rows = []
    for day in range(200):
        at_h = 25.3 * day
        while (at_h % 4.0) >= 3.0:
            rows.append((at_h, False))
            at_h += 1 / 60
        rows.append((at_h, True))
    assert sum(had for _, had in rows) / len(rows) < 0.2
    assert obtainability(rows) == pytest.approx(0.75, abs=0.06)


launches_of = st.lists(st.tuples(st.floats(0, 100), st.booleans()), min_size=1, max_size=30)


@given(launches_of, st.randoms(use_true_random=False))
def test_obtainability_is_a_share_whatever_the_order_and_weighs_no_more_than_the_time(rows, random):
    believed = obtainability(rows)
    assert 0 < believed < 1
    assert obtainability(random.sample(rows, len(rows))) == believed
    times = [at_h for at_h, _ in rows]
    trials = min(len(rows), 1 + (max(times) - min(times)) / 2) + 1e-9
    assert 8 / (10 + trials) <= believed <= (8 + trials) / (10 + trials)


@given(st.dictionaries(st.integers(0, 6000), st.booleans(), min_size=1, max_size=30))
def test_a_refusal_more_on_the_way_to_a_refusal_says_nothing(had_by_minute):
    """The time between them is spoken for already, where it is no more than two hours."""
    rows = [(minute / 60, had) for minute, had in sorted(had_by_minute.items())]
    more = [
        ((before + after) / 2, False)
        for (before, _), (after, had) in pairwise(rows)
        if not had and after - before <= 2
    ]
    assert obtainability([*rows, *more]) == pytest.approx(obtainability(rows))


spans_of = st.lists(
    st.tuples(st.floats(-5, 30), st.none() | st.floats(0, 40), st.floats(0.1, 4)).map(
        lambda row: span(row[0], None if row[1] is None else row[0] + row[1], row[2])
    ),
    max_size=12,
)


@given(spans_of)
def test_hours_add_up_to_what_was_held(held):
    by_hour = instances_by_h(held, since_s=0.0, hours=24)
    whole = sum(
        row.instances
        * max(0.0, min(24.0, 24.0 if row.until_s is None else row.until_s / H) - max(0.0, row.since_s / H))
        for row in held
    )
    assert len(by_hour) == 24
    assert sum(by_hour) == pytest.approx(whole, abs=1e-6)
    assert all(0 <= hour <= sum(row.instances for row in held) + 1e-9 for hour in by_hour)
