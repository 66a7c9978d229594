"""One offer as rows and columns of a program with whole numbers: exact, whatever its losses, posture and bounds."""

import numpy as np

from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Pools

#: What a row may fall short by; half of what a plan may, so that no solution is turned down for rounding.
_SHORT = TOLERANCE / 2


class Block:
    """Columns: replicas that stay, replicas that are new (both by pool), then traffic by origin and region.

    In ``active_passive`` instead of traffic: whether a cluster serves, and whether it stands by. Room that a
    deployment's own outgoing replicas leave is not seen: callers subtract what it may save.
    """

    def __init__(self, offer: Offer, pools: Pools) -> None:
        self.offer = offer
        self.count = len(offer.pools)
        place = pools.cluster if offer.passive else pools.region_number
        self.places, self.at = np.unique(place[offer.pools], return_inverse=True)
        width, origins = len(self.places), len(offer.load)
        self.others = 2 * width if offer.passive else origins * width
        self.columns = 2 * self.count + self.others
        held = np.minimum(offer.held, offer.limit)
        self.upper = np.concatenate([held, offer.limit - held, np.ones(self.others)]).astype(float)
        self.whole = np.ones(self.columns, dtype=bool)
        if not offer.passive:
            self.whole[2 * self.count :] = False
        rows = [self._replicas(np.ones(self.count), -np.inf, float(offer.deployment.max_replicas))]
        rows += self._passive() if offer.passive else [*self._served(), *self._traffic()]
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
        return np.concatenate([unit - offer.leaving, unit + offer.refused, others])

    def plan(self, values: Floats) -> tuple[Ints, Bools]:
        """Replicas by pool (rounded up where they are parts), and which of them stand by."""
        total = values[: self.count] + values[self.count : 2 * self.count]
        replicas = np.ceil(total - 1e-5).astype(np.int64)
        aside = np.zeros(self.count, dtype=bool)
        if self.offer.passive:
            aside = (values[2 * self.count + len(self.places) :] > 0.5)[self.at] & (replicas > 0)
        return replicas, aside

    def _replicas(self, part: Floats, low: float, high: float) -> tuple[Floats, float, float]:
        line = np.zeros(self.columns)
        line[: self.count] = line[self.count : 2 * self.count] = part
        return line, low, high

    def _parts(self) -> list[Floats]:
        """What a replica gives of the demand and of the replicas that are needed; one of them where it says it all."""
        offer = self.offer
        survival = offer.survival if offer.level != "none" else np.ones(self.count)
        share, count = offer.share * survival, survival / offer.needs.replicas
        if np.all(share <= count):
            return [share]
        return [count] if np.all(count <= share) else [share, count]

    def _served(self) -> list[tuple[Floats, float, float]]:
        losses = list(self.offer.losses.values()) or [np.zeros(self.count, dtype=bool)]
        return [
            self._replicas(np.where(lost, 0.0, part), 1.0 - _SHORT, np.inf)
            for lost in losses
            for part in self._parts()
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
            if origins and offer.needs.served >= 1.0:
                line, _, _ = self._replicas(np.where(here, -offer.share, 0.0), 0.0, 0.0)
                line[start + np.arange(origins) * width + region] = offer.load
                rows.append((line, -np.inf, TOLERANCE))
        return rows

    def _passive(self) -> list[tuple[Floats, float, float]]:
        """One cluster serves and, where losses must be survived, one that none of them takes with it stands by."""
        offer, start, width = self.offer, 2 * self.count, len(self.places)
        survives = offer.level != "none"
        rows = []

        def line(serving: Floats, standing: Floats, part: Floats | None = None) -> Floats:
            found = np.zeros(self.columns)
            if part is not None:
                found[: self.count] = found[self.count : start] = part
            found[start : start + width], found[start + width :] = serving, standing
            return found

        every, none = np.ones(width), np.zeros(width)
        rows.append((line(every, none), 1.0, 1.0))
        rows.append((line(none, every), float(survives), float(survives)))
        for cluster in range(width):
            here = self.at == cluster
            only = np.eye(width)[cluster]
            rows.extend(
                (line(-only, -only, np.where(here, part, 0.0)), -_SHORT, np.inf) for part in self._parts()
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
