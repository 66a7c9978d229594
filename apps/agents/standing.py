"""Who speaks for a cluster: one table of what an agent's claim means. Pure: facts in, a verdict out.

Each start of an agent is an instance with an id of its own and a sequence that rises with every sync. The newest
instance holds the seat. What the others are answered:

=====================================  ==============  ======================================================
claim                                  verdict         what follows
=====================================  ==============  ======================================================
the holder, sequence risen             CURRENT         is heard
any known one, sequence not risen      REPLAYED        refused: these bytes were sent before
unknown, knows the present epoch       TAKES_OVER      gets the seat, the epoch rises
unknown, epoch is older                SUPERSEDED      refused, the present epoch is named; it is remembered
former holder, first time              SUPERSEDED      the same
former holder, told, sequence risen    DUPLICATE       two instances are alive: both are fenced
anyone while the cluster is fenced     FENCED          refused until an operator enrols one anew
=====================================  ==============  ======================================================

An unknown instance that is one epoch behind takes over too if nobody has yet named the present epoch: then the
holder may have died before it heard of it, and its successor starts from what it had on its disk.
"""

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """What a claim means; see the table above."""

    CURRENT = "current"
    REPLAYED = "replayed"
    TAKES_OVER = "takes_over"
    SUPERSEDED = "superseded"
    DUPLICATE = "duplicate"
    FENCED = "fenced"


@dataclass(frozen=True)
class Claim:
    """What a sync says of its sender."""

    instance_id: str
    cluster_epoch: int
    sequence: int


@dataclass(frozen=True)
class Seat:
    """Who holds the cluster. ``instance_id`` is empty while nobody has spoken yet."""

    instance_id: str
    cluster_epoch: int
    epoch_confirmed: bool
    last_sequence: int
    fenced: bool


@dataclass(frozen=True)
class Former:
    """An instance that held the seat before, or claimed it in vain. ``told``: it was answered so."""

    last_sequence: int
    told: bool


def judge(seat: Seat, former: Former | None, claim: Claim) -> Verdict:
    """What a claim means; ``former`` is what is remembered of its instance, if it is not the holder."""
    if claim.instance_id == seat.instance_id:
        if claim.sequence <= seat.last_sequence:
            return Verdict.REPLAYED
        return Verdict.FENCED if seat.fenced else Verdict.CURRENT
    if former is not None and claim.sequence <= former.last_sequence:
        return Verdict.REPLAYED
    if seat.fenced:
        return Verdict.FENCED
    if former is not None:
        return Verdict.DUPLICATE if former.told else Verdict.SUPERSEDED
    unheard_of = 0 if seat.epoch_confirmed else 1
    knows = claim.cluster_epoch >= seat.cluster_epoch - unheard_of
    return Verdict.TAKES_OVER if knows or not seat.instance_id else Verdict.SUPERSEDED
