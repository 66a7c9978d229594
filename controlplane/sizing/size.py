"""From a curve and goals to a size: the concurrency, and what to tell the engine.

More side by side brings more tokens a second until the GPU computes all that it can, and lets each request wait
longer. So the size is the most that keeps the goals, and never more than brings something.

*Batched tokens.* An engine with continuous batching computes in each step one token of every answer and a piece of
the prompts that wait. A step lasts about the time between two tokens, so it must take as many prompt tokens as arrive
in that time, or prompts pile up; and a whole prompt within the goal of the first token. More than that lets answers
pause while a long prompt is computed (Agrawal et al., Sarathi-Serve, 2024).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from controlplane.sizing.curve import CurvePoint, at, rising
from workloadplane.protocol.refusal import Refusal

#: Concurrency beyond which throughput grows by less than this share of its highest is not worth its wait.
_WORTH_SHARE = 0.03
#: Twice what arrives on average: prompts come in bursts.
_BURST_FACTOR = 2.0
_STEP_TOKENS_MIN = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """Seconds that 95 % shall not exceed; None = no goal."""

    ttft_s_p95: float | None = None
    inter_token_latency_s_p95: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """The size of one replica, and what it does at it.

    concurrency:            requests side by side: the ``concurrency_target`` of its deployment
    limited_by:             ``ttft`` | ``inter_token_latency`` | ``throughput`` | ``measured`` (it may take more)
    max_num_seqs:           what the engine computes side by side; what comes beyond waits at the gateway, in its order
    max_num_batched_tokens: of one step of the engine, prompts and answers together
    """

    concurrency: int
    limited_by: str
    requests_per_s: float
    tokens_per_s: float
    ttft_s_p95: float
    inter_token_latency_s_p95: float
    max_num_seqs: int
    max_num_batched_tokens: int
    reasons: tuple[str, ...]


def size(points: Sequence[CurvePoint], goals: Goals, *, input_tokens_mean: float) -> Sizing | Refusal:
    """The size that keeps the goals; a Refusal if none does. ``points``: one or more, each concurrency once."""
    curve = rising(points)
    limits = [
        _limit(curve, "ttft", goals.ttft_s_p95, lambda point: point.ttft_s_p95),
        _limit(
            curve,
            "inter_token_latency",
            goals.inter_token_latency_s_p95,
            lambda point: point.inter_token_latency_s_p95,
        ),
    ]
    refusal = next((limit for limit in limits if isinstance(limit, Refusal)), None)
    if refusal is not None:
        return refusal
    kept = [limit for limit in limits if isinstance(limit, _Limit)]
    most = min((limit.concurrency for limit in kept), default=curve[-1].concurrency)
    worth = _worth(curve, most)
    reasons = [limit.reason for limit in kept]
    if worth < most:
        limited_by = "throughput"
        reasons.append(f"from {worth} on throughput grows by less than {_WORTH_SHARE:.0%}")
    elif kept and most < curve[-1].concurrency:
        limited_by = min(kept, key=lambda limit: limit.concurrency).name
    else:
        limited_by = "measured"
        reasons.append(f"{curve[-1].concurrency} was the most that was measured: it may take more")
    concurrency = min(worth, most)
    return Sizing(
        concurrency=concurrency,
        limited_by=limited_by,
        requests_per_s=at(curve, concurrency, lambda point: point.requests_per_s),
        tokens_per_s=at(curve, concurrency, lambda point: point.tokens_per_s),
        ttft_s_p95=at(curve, concurrency, lambda point: point.ttft_s_p95),
        inter_token_latency_s_p95=at(curve, concurrency, lambda point: point.inter_token_latency_s_p95),
        max_num_seqs=concurrency,
        max_num_batched_tokens=_step_tokens(curve, concurrency, goals, input_tokens_mean),
        reasons=tuple(reasons),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    name: str
    concurrency: int
    reason: str


def _limit(
    curve: Sequence[CurvePoint], name: str, goal_s: float | None, read: Callable[[CurvePoint], float]
) -> _Limit | Refusal | None:
    """The highest whole concurrency that keeps one goal."""
    if goal_s is None:
        return None
    if read(curve[0]) > goal_s:
        return Refusal(
            rule="goal_unreachable",
            subject=f"{name}_s_p95",
            value=f"{read(curve[0]):.3g} s at {curve[0].concurrency} side by side",
            remedy=f"{goal_s:g} s can't be kept at any concurrency that was measured: measure lower ones, "
            "take faster GPUs or a smaller model, or raise the goal",
        )
    highest = curve[0].concurrency
    for left, right in pairwise(curve):
        if read(right) <= goal_s:
            highest = right.concurrency
            continue
        share = (goal_s - read(left)) / (read(right) - read(left))
        highest = math.floor(left.concurrency + share * (right.concurrency - left.concurrency))
        break
    return _Limit(
        name=name,
        concurrency=highest,
        reason=f"{name.replace('_', ' ')} p95 {at(curve, highest, read):.3g} s at {highest}, goal {goal_s:g} s",
    )


def _worth(curve: Sequence[CurvePoint], most: int) -> int:
    """The least concurrency up to ``most`` whose throughput is about as high as any up to there."""
    candidates = [point.concurrency for point in curve if point.concurrency <= most] or [most]
    if most not in candidates:
        candidates.append(most)
    best = max(at(curve, each, lambda point: point.tokens_per_s) for each in candidates)
    enough = (1 - _WORTH_SHARE) * best
    return next(each for each in candidates if at(curve, each, lambda point: point.tokens_per_s) >= enough)


def _step_tokens(
    curve: Sequence[CurvePoint], concurrency: int, goals: Goals, input_tokens_mean: float
) -> int:
    step_s = at(curve, concurrency, lambda point: point.inter_token_latency_s_p50)
    requests_per_s = at(curve, concurrency, lambda point: point.requests_per_s)
    arriving = _BURST_FACTOR * requests_per_s * input_tokens_mean * step_s
    in_time = input_tokens_mean * step_s / goals.ttft_s_p95 if goals.ttft_s_p95 is not None else 0.0
    return _STEP_TOKENS_MIN * math.ceil((concurrency + max(arriving, in_time)) / _STEP_TOKENS_MIN)
