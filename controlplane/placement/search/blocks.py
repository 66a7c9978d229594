"""One offer as rows and columns of a program with whole numbers: exact, whatever its losses, posture and bounds."""

import numpy as np

from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.search.highs import Model
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Pools

#: What a row may fall short by; half of what a plan may, so that no solution is turned down for rounding.
_SHORT = TOLERANCE / 2

#: By more than any lawful plan may break a row.
_LOOSE = 8 * TOLERANCE


class Block:
    """Columns: replicas that stay, replicas that are new (both by pool), then traffic by origin and region.

    In ``active_passive`` instead of traffic: whether a cluster serves, and whether it stands by. Last, where replicas
    may be missing, how many are. Room that a deployment's own outgoing replicas leave is not seen: callers subtract
    what it may save.
    """

    def __init__(self, offer: Offer, pools: Pools) -> None:
        self.offer = offer
        self.count = len(offer.pools)
        place = pools.cluster if offer.passive else pools.region_number
        self.places, self.at = np.unique(place[offer.pools], return_inverse=True)
        width, origins = len(self.places), len(offer.load)
        self.others = 2 * width if offer.passive else origins * width
        self.columns = 2 * self.count + self.others + int(offer.short)
        held = np.minimum(offer.held, offer.limit)
        missing = [offer.needs.size] if offer.short else []
        self.upper = np.concatenate([held, offer.limit - held, np.ones(self.others), missing]).astype(float)
        self.whole = np.ones(self.columns, dtype=bool)
        if not offer.passive:
            self.whole[2 * self.count : 2 * self.count + self.others] = False
        rows = [self._replicas(np.ones(self.count), -np.inf, float(offer.deployment.max_replicas))]
        rows += self._passive() if offer.passive else [*self._served(), *self._traffic()]
        if offer.short:  # where nothing is missing another offer says what all costs, and says it exactly
            rows.append(self._replicas(np.zeros(self.count), 1.0, np.inf, 1.0))
        self.lines = np.array([line for line, _, _ in rows])
        self.low = np.array([low for _, low, _ in rows])
        self.high = np.array([high for _, _, high in rows])

    def cost(self, unit: Floats) -> Floats:
        """``unit``: what a replica costs on each pool. The offer's ``fixed`` comes on top."""
        offer = self.offer
        if offer.passive:
            first = np.array([np.flatnonzero(self.at == number)[0] for number in range(len(self.places))])
            others = np.concatenate([offer.late[:, first].sum(axis=0), np.zeros(len(self.places))])
        else:
            flows = np.zeros((len(offer.load), len(self.places)))
            flows[:, self.at] = offer.late
            others = flows.ravel()
        missing = [offer.missing] if offer.short else []
        return np.concatenate([unit - offer.leaving, unit + offer.refused, others, missing])

    def enter(self, model: Model, costs: Floats, chosen: int | None = None) -> int:
        """Put columns and rows into a model; ``chosen``: the column that says whether all of it is meant, or nothing.

        Where the first column is.
        """
        first = model.columns(costs, self.upper, self.whole)
        for line, low, high in zip(self.lines, self.low, self.high, strict=True):
            terms = {first + int(place): float(line[place]) for place in np.flatnonzero(line)}
            if chosen is None:
                model.row(terms, low=low, high=high)
            elif low == high:
                model.row({**terms, chosen: -low}, low=0.0, high=0.0)
            else:
                if np.isfinite(low):
                    model.row({**terms, chosen: -low}, low=0.0)
                if np.isfinite(high):
                    model.row({**terms, chosen: -high}, high=0.0)
        if chosen is not None:
            for place in [*range(2 * self.count), *range(2 * self.count + self.others, self.columns)]:
                model.row({first + place: 1.0, chosen: -float(self.upper[place])}, high=0.0)
        return first

    def replicas_at(self, first: int, position: int) -> tuple[int, int]:
        """The columns of a pool's replicas: those that stay, those that are new."""
        return first + position, first + self.count + position

    def plan(self, values: Floats) -> tuple[Ints, Bools]:
        """Replicas by pool (rounded up where they are parts), and which of them stand by."""
        total = values[: self.count] + values[self.count : 2 * self.count]
        replicas = np.ceil(total - 1e-5).astype(np.int64)
        aside = np.zeros(self.count, dtype=bool)
        if self.offer.passive:
            standing = values[2 * self.count + len(self.places) : 2 * self.count + 2 * len(self.places)]
            aside = (standing > 0.5)[self.at] & (replicas > 0)
        return replicas, aside

    def relaxed(self, duals: Floats, cost: Floats) -> tuple[float, Floats]:
        """(what all costs at least beside replicas, what a replica on each pool is worth), if rows are worth so much.

        Whatever the ``duals``: no plan costs less than this and its replicas, less what they are worth. ``cost`` of
        columns.
        """
        paid = np.where(np.isfinite(self.low), duals, np.minimum(duals, 0.0))
        paid = np.where(np.isfinite(self.high), paid, np.maximum(paid, 0.0))
        worth = paid @ self.lines
        asked = np.where(paid > 0, self.low, np.where(paid < 0, self.high, 0.0))
        rest = slice(2 * self.count, None)
        others = np.minimum((cost - worth)[rest] * self.upper[rest], 0.0).sum()
        least = float(paid @ asked + others - _LOOSE * np.abs(paid).sum())
        return least, worth[: self.count]

    def _replicas(
        self, part: Floats, low: float, high: float, missing: float = 0.0
    ) -> tuple[Floats, float, float]:
        line = np.zeros(self.columns)
        line[: self.count] = line[self.count : 2 * self.count] = part
        if self.offer.short:
            line[-1] = missing
        return line, low, high

    def _parts(self) -> list[tuple[Floats, float]]:
        """What a replica gives of the demand and of the replicas that are needed, and what one that is missing stands
        for; one of them where it says it all.
        """
        offer = self.offer
        survival = offer.survival if offer.level != "none" else np.ones(self.count)
        share, count = offer.share * survival, survival / offer.needs.replicas
        both = [(share, 1 / offer.needs.size), (count, 1 / offer.needs.replicas)]
        if offer.short:
            return both
        if np.all(share <= count):
            return both[:1]
        return both[1:] if np.all(count <= share) else both

    def _served(self) -> list[tuple[Floats, float, float]]:
        losses = list(self.offer.losses.values()) or [np.zeros(self.count, dtype=bool)]
        return [
            self._replicas(np.where(lost, 0.0, part), 1.0 - _SHORT, np.inf, missing)
            for lost in losses
            for part, missing in self._parts()
        ]

    def _traffic(self) -> list[tuple[Floats, float, float]]:
        """Each origin is served; a region that is not used serves none, and none serves more than it can."""
        offer, start, width = self.offer, 2 * self.count, len(self.places)
        rows, origins = [], len(offer.load)
        for origin in range(origins):
            line = np.zeros(self.columns)
            line[start + origin * width : start + (origin + 1) * width] = 1.0
            rows.append((line, 1.0, 1.0))
        for region in range(width):
            here = self.at == region
            for origin in range(origins):
                line, _, _ = self._replicas(np.where(here, -1.0, 0.0), 0.0, 0.0)
                line[start + origin * width + region] = 1.0
                rows.append((line, -np.inf, 0.0))
            if origins and offer.needs.served >= 1.0 and not offer.short:
                line, _, _ = self._replicas(np.where(here, -offer.share, 0.0), 0.0, 0.0)
                line[start + np.arange(origins) * width + region] = offer.load
                rows.append((line, -np.inf, TOLERANCE))
        return rows

    def _passive(self) -> list[tuple[Floats, float, float]]:
        """One cluster serves and, where losses must be survived, one that none of them takes with it stands by."""
        offer, start, width = self.offer, 2 * self.count, len(self.places)
        survives = offer.level != "none"
        rows = []

        def line(
            serving: Floats, standing: Floats, part: Floats | None = None, missing: float = 0.0
        ) -> Floats:
            found = np.zeros(self.columns)
            if part is not None:
                found[: self.count] = found[self.count : start] = part
            found[start : start + width], found[start + width : start + 2 * width] = serving, standing
            if offer.short:
                found[-1] = missing
            return found

        every, none = np.ones(width), np.zeros(width)
        rows.append((line(every, none), 1.0, 1.0))
        rows.append((line(none, every), float(survives), float(survives)))
        for cluster in range(width):
            here = self.at == cluster
            only = np.eye(width)[cluster]
            rows.extend(
                (line(-only, -only, np.where(here, part, 0.0), missing), -_SHORT, np.inf)
                for part, missing in self._parts()
            )
            for position in np.flatnonzero(here):
                most = float(offer.limit[position])
                rows.append((line(-most * only, -most * only, np.eye(self.count)[position]), -np.inf, 0.0))
            rows.append((line(only, only), -np.inf, 1.0))
        for taken in offer.losses.values():
            touched = np.zeros(width)
            touched[self.at[taken]] = 1.0
            rows.append((line(touched, touched), -np.inf, 1.0))
        return rows
