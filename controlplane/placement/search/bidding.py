"""Prices at which nobody would rather do otherwise, and a bound that no plan goes below: columns are named on the way.

At given prices every deployment names a cheap plan, and the master program names the next prices. Those that are tried
lie between its and the best so far (Wentges), which are those at which the columns known so far cost most together.
What is named is nearly always the cheapest; that nothing is cheaper takes far longer to show. So it is shown only once
prices have settled.
"""

import math
from dataclasses import dataclass, field

from controlplane.placement.search.batches import Prices
from controlplane.placement.search.clock import Clock
from controlplane.placement.search.joint import Proven
from controlplane.placement.search.market import Demanders, Round
from controlplane.placement.search.master import Master, Relaxed
from controlplane.placement.search.offers import Floats

#: So few deployments are priced as exactly as matters in every round: integer programs are solved until no more stays
#: undecided than this part of what the master's answer is above the bound.
FEW = 12
_OPEN_FEW = 0.6

#: With so few a round is in vain where nothing new is named and it takes no more than this from that distance.
_VAIN = 0.1

#: So many integer programs in each round else, and one more for so many deployments: where most seems to be open.
_PROGRAMS, _DEPLOYMENTS_PER_PROGRAM = 12, 50

#: So many rounds at most before it is shown, the first time and later.
_ROUGH, _ROUGH_AGAIN = 10, 3

#: Of the time for prices, so much at most goes by before it is shown, the first time and later.
_SETTLING, _SETTLING_AGAIN = 0.5, 0.3

#: Prices have settled where no others could bring more than this, as a part of what is spent.
_SETTLED = 2e-4

#: The same where few are priced: all ways near the bound are listed then, and the last rounds are the dearest.
_SETTLED_FEW = 1e-3

#: What may stay open when a bound is proven, as a part of what is spent.
_OPEN = 1e-4

#: How much of the best prices goes into the next ones.
_KEEP = 0.5


@dataclass(slots=True)
class Bidding:
    """Owner: one run of ``improve``.

    first:   prices to begin with
    bound:   no plan costs less; ``priced`` is the round that showed it
    center:  the best prices so far
    proven:  what deployments cost at least, at each prices where that was looked at closely
    settled: no other prices would bring more
    """

    demanders: Demanders
    master: Master
    first: Prices
    bound: float = -math.inf
    center: Prices | None = None
    relaxed: Relaxed | None = None
    priced: Round | None = None
    proven: list[Proven] = field(default_factory=list)
    rounds: int = 0
    settled: bool = False
    pure: bool = False

    @property
    def few(self) -> bool:
        return len(self.demanders.numbers) <= FEW

    @property
    def _near(self) -> float:
        return _SETTLED_FEW if self.few else _SETTLED

    def run(self, rounds: int, clock: Clock) -> None:
        """Until nothing cheaper can be had at other prices, and that is shown, or rounds or time end."""
        left = rounds
        while left > 0 and not self.settled and not (self.rounds and clock.late()):
            if self.few:
                self._settle(left, clock)
                break
            rough, share = (_ROUGH, _SETTLING) if self.rounds == 0 else (_ROUGH_AGAIN, _SETTLING_AGAIN)
            left -= 1 + self._settle(max(1, min(rough, left - 1)), clock.part(share))
            self._prove(clock)

    def _settle(self, rounds: int, clock: Clock) -> int:
        """Price all deployments, again and again, until prices have settled; so many times."""
        turn = 0
        for turn in range(1, rounds + 1):
            self.relaxed = self.master.relax()
            if self.relaxed is None or (self.rounds and clock.late()):
                break
            over, before = self.relaxed.over, self.bound
            fresh = self._named(self._next_prices(self.relaxed.prices), self.relaxed, clock)
            if over and (not fresh or turn % 4 == 0):
                self.master.forbid_more()
            if not over and self._ends(self.relaxed, before, fresh):
                self.settled = self.few
                break
            self.pure = not fresh
        self.relaxed = self.master.relax()
        return turn

    def _ends(self, answer: Relaxed, before: float, fresh: int) -> bool:
        """Whether other prices would bring no more: by what is proven where few are priced, else by what is named.

        before: the bound before the round; fresh: so many columns were new
        """
        vain = self.pure and not fresh
        if self.few:
            return self._closed(self.bound) or (
                vain and self.bound - before <= _VAIN * (answer.value - before)
            )
        return self._closed(self._lowest(self.center)) or vain

    def _prove(self, clock: Clock) -> None:
        """Show that at the best prices nobody could do with less, as far as there is time."""
        if self.center is None or self.relaxed is None:
            return
        open_ = _OPEN * self.relaxed.spent
        found = self._price(
            self.center, self.relaxed, clock, programs=len(self.demanders.every()), open_=open_
        )
        self.master.add(found.columns)
        self.relaxed = self.master.relax()
        self.settled = self._closed(self.bound)

    def _closed(self, bound: float) -> bool:
        return self.relaxed is not None and self.relaxed.value - bound <= self._near * self.relaxed.spent

    def _named(self, prices: Prices, answer: Relaxed, clock: Clock) -> int:
        """How many of the plans that deployments name are new."""
        every = len(self.demanders.every())
        programs = every if self.few else _PROGRAMS + every // _DEPLOYMENTS_PER_PROGRAM
        open_ = _OPEN_FEW * (answer.value - self.bound) if self.few else 0.0
        found = self._price(prices, answer, clock, programs=programs if self.rounds else 0, open_=open_)
        self.rounds += 1
        fresh = self.master.add(found.columns)
        if self.center is None or self._lowest(prices) > self._lowest(self.center):
            self.center = prices
        return fresh

    def _price(self, prices: Prices, answer: Relaxed, clock: Clock, *, programs: int, open_: float) -> Round:
        worth = dict(zip(self.demanders.numbers, answer.worth, strict=True))
        known = dict(zip(self.demanders.numbers, map(float, self.master.cheapest(prices)), strict=True))
        found = self.demanders.price(
            prices, programs=programs, open_=open_, worth=worth, known=known, late=clock.late
        )
        # What runs may be what no offer knows, as where its GPU is no longer right for it: a known plan bounds too.
        for number, least in known.items():
            found.bounds[number] = min(found.bounds[number], least)
        bound = sum(found.bounds.values()) - self.master.constant(prices)
        if self.bound < bound < math.inf:
            self.bound, self.priced = bound, found
        if math.isfinite(bound):
            self.proven.append(Proven(bound, prices, found.bounds))
        return found

    def _lowest(self, prices: Prices | None) -> float:
        """What the cheapest columns known so far cost at these prices, beside what is there at no price."""
        if prices is None:
            return -math.inf
        return float(self.master.cheapest(prices).sum()) - self.master.constant(prices)

    def _next_prices(self, named: Prices) -> Prices:
        if self.center is None:
            return self.first
        keep = 0.0 if self.pure else _KEEP

        def between(old: Floats, new: Floats) -> Floats:
            mixed: Floats = keep * old + (1 - keep) * new
            return mixed

        return Prices(
            used=between(self.center.used, named.used),
            scarce=between(self.center.scarce, named.scarce),
            budget=between(self.center.budget, named.budget),
        )
