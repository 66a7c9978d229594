"""What a drill has shown, and whether that is what was promised."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from controlplane.failover.drill import DrillLimits, DrillMethod, Sample

#: Within this a lost region gets nothing new, killed or frozen (decision 0024).
FOUND_WITHIN_S: Final = 3.0
#: Measured with a few hundred requests, a share is no more exact than this.
SHARE_TOLERANCE: Final = 0.005
#: Of the requests while traffic was to stay away, so many may have been served there by who had not heard yet.
STAYED_TOLERANCE: Final = 0.05
#: Tables travel within a second or two; what began before that is nobody's staying.
TABLES_WITHIN_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPromise:
    """What is expected of one deployment.

    basis:        the certificate says what is left when capacity is lost; else nothing may fail at all
    promised:     its survivability covers the loss
    served_share: of the demand planned for; margin_share: capacity beyond it (negative: it lacks)
    recovery_s:   until all of the demand is served again; None where that was not measured
    regions:      in which it may be served; empty = anywhere
    """

    basis: Literal["certificate", "static_stability"]
    promised: bool
    served_share: float
    margin_share: float
    recovery_s: float | None
    regions: tuple[str, ...] = ()


#: Where nothing but the network, the pace or the control plane suffers nobody loses anything.
NOTHING_LOST: Final = DrillPromise(
    basis="static_stability", promised=True, served_share=1.0, margin_share=0.0, recovery_s=0.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillCourse:
    """When what happened, in seconds since the drill began.

    detected_at_s:  when another region first gave the lost one nothing new any more; None where that was not watched
    lost_regions:   what the drill takes away
    idle_micro_usd_per_h: rent of what stands there and serves nothing meanwhile
    """

    method: DrillMethod
    injected_at_s: float
    repaired_at_s: float
    ended_at_s: float
    detected_at_s: float | None
    lost_regions: tuple[str, ...]
    idle_micro_usd_per_h: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFigures:
    """One phase. ``regions``: share of the answered requests by who served them, the most first."""

    phase: Literal["before", "during", "after"]
    requests: int
    failed_first: int
    failed: int
    broken: int
    ttft_s_p50: float | None
    ttft_s_p99: float | None
    regions: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What was promised and what was measured instead."""

    rule: Literal["served_share", "recovery", "moved", "residency", "ttft"]
    promised: str
    measured: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """What was measured; seconds count from the moment of the fault.

    detected_s:     until another region gave it nothing new any more
    moved_s:        until the beginning of the last request that it served
    last_failed_s:  until the beginning of the last new request that failed at first; 0 where none did
    served_share:   of the requests during the fault, those that were answered in the end
    cost_micro_usd: rent of what stood idle
    """

    phases: tuple[PhaseFigures, ...]
    detected_s: float | None
    moved_s: float | None
    last_failed_s: float
    served_share: float
    fault_s: float
    cost_micro_usd: int
    differences: tuple[Difference, ...]


def drill_report(
    course: DrillCourse, samples: Sequence[Sample], promise: DrillPromise, limits: DrillLimits
) -> DrillReport:
    """Sum up the samples, and set them against the promise."""
    during = _between(samples, course.injected_at_s, course.repaired_at_s)
    phases = (
        _figures("before", _between(samples, 0.0, course.injected_at_s)),
        _figures("during", during),
        _figures("after", _between(samples, course.repaired_at_s, math.inf)),
    )
    failed_at_s = [sample.at_s for sample in during if sample.outcome != "ok"]
    there_at_s = [sample.at_s for sample in during if sample.region in course.lost_regions]
    lost = sum(sample.outcome in ("failed", "broken") for sample in during)
    fault_s = course.repaired_at_s - course.injected_at_s
    served_share = 1 - lost / len(during) if during else 1.0
    last_failed_s = max(failed_at_s, default=course.injected_at_s) - course.injected_at_s
    return DrillReport(
        phases=phases,
        detected_s=None if course.detected_at_s is None else course.detected_at_s - course.injected_at_s,
        moved_s=max(there_at_s) - course.injected_at_s if there_at_s else None,
        last_failed_s=last_failed_s,
        served_share=served_share,
        fault_s=fault_s,
        cost_micro_usd=round(course.idle_micro_usd_per_h * fault_s / 3600),
        differences=(
            *_served_differences(promise, served_share, last_failed_s),
            *_stayed_difference(course, promise, during),
            *_residency_difference(promise, samples),
            *_ttft_difference(limits, phases[1]),
        ),
    )


def _served_differences(
    promise: DrillPromise, served_share: float, last_failed_s: float
) -> Iterable[Difference]:
    promised_share = min(1.0, promise.served_share)
    if served_share < promised_share - SHARE_TOLERANCE:
        yield Difference(
            rule="served_share", promised=_percent(promised_share), measured=_percent(served_share)
        )
    within_s = FOUND_WITHIN_S if promised_share >= 1 else promise.recovery_s
    if within_s is not None and last_failed_s > max(within_s, FOUND_WITHIN_S):
        yield Difference(
            rule="recovery",
            promised=f"no new request fails after {max(within_s, FOUND_WITHIN_S):.1f} s",
            measured=f"one failed after {last_failed_s:.1f} s",
        )


def _stayed_difference(
    course: DrillCourse, promise: DrillPromise, during: Sequence[Sample]
) -> Iterable[Difference]:
    """By weights nobody is refused for the drill's sake: what the others have no room for is served there after all."""
    if course.method != "weights" or promise.served_share < 1:
        return
    later = [sample for sample in during if sample.at_s > course.injected_at_s + TABLES_WITHIN_S]
    stayed = sum(sample.region in course.lost_regions for sample in later)
    if stayed > STAYED_TOLERANCE * len(later):
        yield Difference(
            rule="moved",
            promised=f"the others take all of it, with {_percent(promise.margin_share)} to spare",
            measured=f"{_percent(stayed / len(later))} had no room there and stayed",
        )


def _residency_difference(promise: DrillPromise, samples: Sequence[Sample]) -> Iterable[Difference]:
    strays = sorted({sample.region for sample in samples if sample.region} - set(promise.regions))
    if promise.regions and strays:
        yield Difference(
            rule="residency",
            promised=f"served only in {', '.join(promise.regions)}",
            measured=f"served in {', '.join(strays)}",
        )


def _ttft_difference(limits: DrillLimits, during: PhaseFigures) -> Iterable[Difference]:
    p99 = during.ttft_s_p99
    if p99 is not None and p99 > limits.ttft_s_max:
        yield Difference(
            rule="ttft",
            promised=f"a first token within {limits.ttft_s_max:g} s",
            measured=f"{p99:.2f} s at the 99th percentile",
        )


def _between(samples: Sequence[Sample], start_s: float, end_s: float) -> list[Sample]:
    return [sample for sample in samples if start_s <= sample.at_s < end_s]


def _figures(phase: Literal["before", "during", "after"], samples: Sequence[Sample]) -> PhaseFigures:
    ttft_s = sorted(sample.ttft_s for sample in samples if sample.ttft_s is not None)
    served = Counter(sample.region for sample in samples if sample.region)
    total = sum(served.values())
    return PhaseFigures(
        phase=phase,
        requests=len(samples),
        failed_first=sum(sample.outcome in ("again", "failed") for sample in samples),
        failed=sum(sample.outcome == "failed" for sample in samples),
        broken=sum(sample.outcome == "broken" for sample in samples),
        ttft_s_p50=percentile(ttft_s, 0.5),
        ttft_s_p99=percentile(ttft_s, 0.99),
        regions=tuple((name, count / total) for name, count in served.most_common()),
    )


def percentile(in_order: Sequence[float], share: float) -> float | None:
    """The nearest rank's value; None of nothing."""
    return in_order[max(0, math.ceil(share * len(in_order)) - 1)] if in_order else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
