"""All that deployments could do in a plan that costs so much at most, as a program of all of them is told it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from controlplane.placement.search.columns import Column
from controlplane.placement.search.joint import Party, Proven
from controlplane.placement.search.market import Demanders, Round
from controlplane.placement.search.offers import Offer
from controlplane.placement.search.ways import Listing, TooManyError, Ways

#: So many ways of one deployment are listed at most, so many states looked at on the way to them.
_MOST_WAYS, _MOST_STATES = 400, 10_000


@dataclass(slots=True, eq=False)
class Parties:
    """Owner: one run of ``improve``.

    proven: what was shown at the prices that were tried, the highest bound first; ``priced`` is the round of that one
    begun:  what each does in the plan that was begun from

    Asked for dearer and dearer plans: whose ways are too many once are not listed again.
    """

    demanders: Demanders
    proven: Sequence[Proven]
    priced: Round
    begun: Sequence[Column]
    _listings: dict[int, Listing] = field(default_factory=dict)
    _many: set[int] = field(default_factory=set)

    def within(self, total: float, now: Sequence[Column]) -> list[Party]:
        """In a plan that costs ``total``, as ways unless there are too many. ``now``: what each does at present."""
        return [self._party(number, total, now) for number in self.demanders.numbers]

    def _party(self, number: int, total: float, now: Sequence[Column]) -> Party:
        spares = [total - one.bound + one.bounds[number] for one in self.proven]
        known = [one for one in self.begun if one.number == number]
        known += [one for one in now if one.number == number and one not in known]
        floor = self.demanders.floor[number]
        party = Party(number=number, known=known, floor=floor if floor <= spares[0] else math.inf)
        offers = [
            one
            for one in self.demanders.by_number[number]
            if self.priced.of_offers.get(id(one), -math.inf) <= spares[0]
        ]
        if number not in self._many:
            try:
                return replace(party, ways=[self._ways(offer, spares) for offer in offers])
            except TooManyError:
                self._many.add(number)
        return replace(party, offers=offers)

    def _ways(self, offer: Offer, spares: Sequence[float]) -> Ways:
        listing = self._listings.get(id(offer))
        if listing is None:
            program, tried = self.demanders.program(offer), [one.prices for one in self.proven]
            listing = Listing(self.demanders.offers, offer, program, tried, most=_MOST_STATES)
            self._listings[id(offer)] = listing
        found = listing.ways(spares)
        if len(found.own) > _MOST_WAYS:
            raise TooManyError
        return found
