"""The master program: a column for each deployment, within GPUs and budgets, at least cost.

Rows: GPUs of each pool; of pools that are reserved in part, what is beyond the reservation and so rented; budgets; and
one for each deployment, which takes one column. As a linear program it prices GPUs and budgets.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import highspy
import numpy as np

from controlplane.placement.rules.capacity import packs
from controlplane.placement.search.batches import Prices
from controlplane.placement.search.columns import Column
from controlplane.placement.search.highs import has_solution, is_optimal, silent
from controlplane.placement.search.joint import Room
from controlplane.placement.search.offers import Floats, Ints, Offers


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """The linear program's answer: its value, its prices, and each deployment's (the duals of its rows).

    spent:  the value without wishes that are given up
    ``over``: it takes more than there is, at a price that was set for that.
    """

    value: float
    spent: float
    prices: Prices
    worth: Floats
    shares: Floats
    over: bool


class Master:
    """Owner: one run of ``improve``. Columns are only ever added.

    shared: so many rows there are before those of deployments
    rent:   of a GPU by pool, where no row of its own counts it
    """

    def __init__(self, offers: Offers, numbers: Sequence[int]) -> None:
        pools = offers.pools
        self.offers = offers
        self.columns: list[Column] = []
        self._known: dict[tuple[int, object], int] = {}
        self._costs: list[float] = []
        self._starts: list[int] = [0]
        self._rows_of: list[int] = []
        self._values: list[float] = []
        self._row = {number: row for row, number in enumerate(numbers)}
        self.partly = np.flatnonzero((pools.reserved_gpus > 0) & (pools.reserved_gpus < pools.room_gpus))
        self.rent = np.where(pools.reserved_gpus > 0, 0.0, pools.rent_micro_usd_per_gpu_h)
        self._partly_row = {int(pool): row for row, pool in enumerate(self.partly)}
        self.count = len(pools.room_gpus)
        self.shared = self.count + len(self.partly) + len(offers.budget)
        self._kept_gpus, self._kept_money = np.zeros(self.count), np.zeros(len(offers.budget))
        self._beside: Sequence[Column] = ()
        self._highs = silent()
        self._rows()

    def _rows(self) -> None:
        pools, infinite = self.offers.pools, highspy.kHighsInf
        upper = [*pools.room_gpus, *pools.reserved_gpus[self.partly], *self.offers.budget]
        empty, none = np.array([], dtype=np.int32), np.array([])
        for limit in upper:
            self._highs.addRow(-infinite, float(limit), 0, empty, none)
        for _ in self._row:
            self._highs.addRow(1.0, 1.0, 0, empty, none)
        for row, pool in enumerate(self.partly):
            index = np.array([self.count + row], dtype=np.int32)
            self._highs.addCol(
                float(pools.rent_micro_usd_per_gpu_h[pool]), 0.0, infinite, 1, index, np.array([-1.0])
            )
        self._over_rows = np.array(
            [*range(self.count), *range(self.count + len(self.partly), self.shared)], dtype=np.int32
        )
        dear = 2.0 * float(pools.rent_micro_usd_per_gpu_h.max(initial=1.0))
        self._over_costs = np.array([dear] * self.count + [1.0] * len(self.offers.budget))
        for row, cost in zip(self._over_rows, self._over_costs, strict=True):
            self._highs.addCol(
                float(cost), 0.0, infinite, 1, np.array([row], dtype=np.int32), np.array([-1.0])
            )
        self._extra = len(self.partly) + len(self._over_rows)

    def add(self, columns: Iterable[Column]) -> int:
        """Columns that are not there yet; how many there were of them."""
        fresh: list[Column] = []
        for one in columns:
            if (one.number, one.key) not in self._known:
                self._known[one.number, one.key] = len(self.columns) + len(fresh)
                fresh.append(one)
        if not fresh:
            return 0
        first, start = len(self._costs), len(self._rows_of)
        for one in fresh:
            entries = self.entries(one)
            self._costs.append(self.cost(one))
            self._rows_of.extend(entries)
            self._values.extend(entries.values())
            self._starts.append(len(self._rows_of))
        count = len(fresh)
        self._highs.addCols(
            count,
            np.array(self._costs[first:]),
            np.zeros(count),
            np.full(count, highspy.kHighsInf),
            len(self._rows_of) - start,
            np.array(self._starts[first:-1], dtype=np.int32) - np.int32(start),
            np.array(self._rows_of[start:], dtype=np.int32),
            np.array(self._values[start:]),
        )
        self.columns.extend(fresh)
        return count

    def cost(self, one: Column) -> float:
        """With the rent of pools that have no reservation; elsewhere rent is in rows of its own."""
        return one.cost + float(sum(self.rent[pool] * gpus for pool, gpus in one.gpus.items()))

    def entries(self, one: Column) -> dict[int, float]:
        """What it takes of each row."""
        found = {pool: room for pool, room in one.beyond.items() if room > 0}
        for pool, gpus in one.gpus.items():
            if pool in self._partly_row:
                found[self.count + self._partly_row[pool]] = gpus
        project = self.project_of(one.number)
        if project >= 0:
            found[self.count + len(self.partly) + project] = one.budgeted
        found[self.shared + self._row[one.number]] = 1.0
        return found

    def project_of(self, number: int) -> int:
        """The row of its project's budget, -1 for none."""
        return self.offers.project.get(self.offers.problem.deployments[number].project_id, -1)

    def relax(self) -> Relaxed | None:
        """Solve the linear program; None where HiGHS fails."""
        self._highs.run()
        if not is_optimal(self._highs):
            return None
        solution = self._highs.getSolution()
        duals = np.array(solution.row_dual)
        used = self.rent.copy()
        rented = np.clip(
            -duals[self.count : self.count + len(self.partly)],
            0.0,
            self.offers.pools.rent_micro_usd_per_gpu_h[self.partly],
        )
        used[self.partly] = rented
        prices = Prices(
            used=used,
            scarce=np.maximum(-duals[: self.count], 0.0),
            budget=np.maximum(-duals[self.count + len(self.partly) : self.shared], 0.0),
        )
        value = float(self._highs.getInfo().objective_function_value)
        shares = np.array(solution.col_value)[self._extra :]
        return Relaxed(
            value=value,
            spent=value - float(np.dot(shares, [one.broken for one in self.columns])),
            prices=prices,
            worth=duals[self.shared :],
            shares=shares,
            over=bool(np.any(np.array(solution.col_value)[len(self.partly) : self._extra] > 1e-6)),
        )

    def forbid_more(self) -> None:
        """Make what goes beyond GPUs and budgets dearer."""
        self._over_costs *= 5.0
        index = np.arange(len(self.partly), self._extra, dtype=np.int32)
        self._highs.changeColsCost(len(index), index, self._over_costs)

    def guess(self) -> Prices:
        """Prices to begin with: what is reserved is worth about what is rented."""
        pools = self.offers.pools
        used = self.rent.copy()
        used[self.partly] = 0.8 * pools.rent_micro_usd_per_gpu_h[self.partly]
        whole = pools.reserved_gpus >= pools.room_gpus
        scarce = np.where(whole, 0.8 * pools.rent_micro_usd_per_gpu_h, 0.0)
        return Prices(used=used, scarce=scarce, budget=np.zeros(len(self.offers.budget)))

    def known(self, gpu_micro_usd_per_h_by_pool: Mapping[str, int]) -> Prices:
        """Prices of an earlier plan, told by ``PlacementPlan``; what it did not know is as in ``guess``."""
        guess = self.guess()
        worth = np.array(
            [float(gpu_micro_usd_per_h_by_pool.get(pool.pool_id, 0)) for pool in self.offers.problem.pools]
        )
        rented = np.minimum(worth[self.partly], self.offers.pools.rent_micro_usd_per_gpu_h[self.partly])
        used, scarce = guess.used, worth
        used[self.partly] = rented
        scarce[self.partly] -= rented
        return Prices(used=used, scarce=scarce, budget=guess.budget)

    def leave_room(self, beside: Sequence[Column], begun: Sequence[int]) -> None:
        """Of what the columns ``begun`` leave, those keep theirs who hold something and are not searched for."""
        left = self.room(begun)
        for one in beside:
            for pool, gpus in one.beyond.items():
                self._kept_gpus[pool] += gpus
            project = self.project_of(one.number)
            if project >= 0:
                self._kept_money[project] += one.budgeted
        self._kept_gpus = np.clip(left.gpus, 0.0, self._kept_gpus)
        self._kept_money = np.clip(left.budget, 0.0, self._kept_money)
        self._beside = beside
        self._beside = beside if self.packs(begun) else ()

    def fits(self, chosen: Iterable[int]) -> bool:
        """Whether columns keep to GPUs and budgets."""
        room = self.room(chosen)
        return bool(
            np.all(room.gpus > self._kept_gpus - 1e-6) and np.all(room.budget > self._kept_money - 1.0)
        )

    def room(self, chosen: Iterable[int]) -> Room:
        """What columns leave of everything that is shared."""
        pools, first = self.offers.pools, self.count + len(self.partly)
        gpus, reserved, budget = pools.room_gpus.copy(), pools.reserved_gpus.copy(), self.offers.budget.copy()
        for index in chosen:
            one = self.columns[index]
            for row, amount in self.entries(one).items():
                if row < self.count:
                    gpus[row] -= amount
                elif first <= row < self.shared:
                    budget[row - first] -= amount
            for pool, amount in one.gpus.items():
                reserved[pool] -= amount
        return Room(gpus=gpus, reserved_gpus=np.maximum(reserved, 0.0), budget=budget)

    def position(self, column: Column) -> int:
        """Where a column is that was added."""
        return self._known[column.number, column.key]

    def paid(self, prices: Prices) -> Floats:
        """What each column costs at these prices, rent, scarcity and budgets included."""
        worth = np.zeros(self.shared + len(self._row))
        worth[: self.count] = prices.scarce
        worth[self.count : self.count + len(self.partly)] = prices.used[self.partly]
        worth[self.count + len(self.partly) : self.shared] = prices.budget
        parts = np.array(self._values) * worth[np.array(self._rows_of)]
        found: Floats = np.array(self._costs) + np.add.reduceat(parts, np.array(self._starts[:-1]))
        return found

    def cheapest(self, prices: Prices) -> Floats:
        """What each deployment's cheapest column costs at these prices."""
        found = np.full(len(self._row), np.inf)
        np.minimum.at(found, self._rows_of_deployments(), self.paid(prices))
        return found

    def reduced(self, answer: Relaxed) -> Floats:
        """By how much each column costs more than its deployment need pay at the answer's prices."""
        found: Floats = self.paid(answer.prices) - answer.worth[self._rows_of_deployments()]
        return found

    def _rows_of_deployments(self) -> Ints:
        """Of each column: the last of its entries."""
        found: Ints = np.array(self._rows_of)[np.array(self._starts[1:]) - 1] - self.shared
        return found

    def value(self, chosen: Iterable[int]) -> float:
        """What columns cost together."""
        pools = self.offers.pools
        used = np.zeros(self.count)
        total = 0.0
        for index in chosen:
            total += self.cost(self.columns[index])
            for pool, gpus in self.columns[index].gpus.items():
                used[pool] += gpus
        beyond = np.maximum(used - pools.reserved_gpus, 0.0)[self.partly]
        return total + float(np.dot(beyond, pools.rent_micro_usd_per_gpu_h[self.partly]))

    def spent(self, chosen: Sequence[int]) -> float:
        """What columns cost together, without wishes that are given up."""
        return self.value(chosen) - sum(self.columns[index].broken for index in chosen)

    def packs(self, chosen: Iterable[int]) -> bool:
        """Whether the replicas fit into instances, which rows of GPUs alone do not say for odd sizes."""
        problem = self.offers.problem
        sizes: dict[int, Counter[int]] = {}
        for one in (*(self.columns[index] for index in chosen), *self._beside):
            gpus = problem.deployments[one.number].gpus_per_replica
            for (pool, _), replicas in one.replicas.items():
                sizes.setdefault(pool, Counter())[gpus] += replicas
        return all(
            packs(
                instances=problem.pools[pool].capacity_instances,
                gpus_per_instance=problem.pools[pool].gpus_per_instance,
                replicas_by_gpus=found,
            )
            for pool, found in sizes.items()
        )

    def constant(self, prices: Prices) -> float:
        """What the bound loses for what is there at no price: GPUs, reservations, budgets."""
        pools = self.offers.pools
        return float(
            np.dot(prices.scarce, pools.room_gpus)
            + np.dot(prices.used[self.partly], pools.reserved_gpus[self.partly])
            + np.dot(prices.budget, self.offers.budget)
        )

    def whole(
        self, free: Sequence[int], fixed: Sequence[int], *, gap: float, nodes: int, time_s: float
    ) -> list[int] | None:
        """Of the columns ``free`` one a deployment, beside those ``fixed``, at least cost; None where none is found.

        ``gap`` in micro-USD/h: how far from the cheapest it may be.

        ``fixed`` is also the first guess: those of them whose deployment has free columns are not binding.
        """
        return _Whole(self, free, fixed).solve(gap=gap, nodes=nodes, time_s=time_s)


class _Whole:
    """An integer program over some of a master's columns, in the room that the fixed ones leave."""

    def __init__(self, master: Master, free: Sequence[int], fixed: Sequence[int]) -> None:
        self._master, self._free = master, list(free)
        numbers = sorted({master.columns[index].number for index in free})
        among = set(numbers)
        self._guess = [index for index in fixed if master.columns[index].number in among]
        self._kept = [index for index in fixed if master.columns[index].number not in among]
        self._row = {number: row for row, number in enumerate(numbers)}
        self._model()

    def _model(self) -> None:
        master, offers = self._master, self._master.offers
        shared = master.count + len(master.partly) + len(offers.budget)
        left = np.concatenate(
            [offers.pools.room_gpus, offers.pools.reserved_gpus[master.partly], offers.budget]
        )
        for index in self._kept:
            for row, amount in master.entries(master.columns[index]).items():
                if row < shared:
                    left[row] -= amount
        self._left = left
        partly = len(master.partly)
        costs = [float(offers.pools.rent_micro_usd_per_gpu_h[pool]) for pool in master.partly]
        starts, rows, values = (
            list(range(partly + 1)),
            list(range(master.count, master.count + partly)),
            [-1.0] * partly,
        )
        for index in self._free:
            one = master.columns[index]
            for row, amount in master.entries(one).items():
                rows.append(row if row < shared else shared + self._row[one.number])
                values.append(amount)
            starts.append(len(rows))
            costs.append(master.cost(one))
        model = highspy.HighsLp()
        columns = partly + len(self._free)
        model.num_col_, model.num_row_ = columns, shared + len(self._row)
        model.col_cost_ = np.array(costs)
        model.col_lower_ = np.zeros(columns)
        model.col_upper_ = np.array([highspy.kHighsInf] * partly + [1.0] * len(self._free))
        model.row_lower_ = np.array([-highspy.kHighsInf] * shared + [1.0] * len(self._row))
        model.row_upper_ = np.concatenate([left, np.ones(len(self._row))])
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.array(starts, dtype=np.int32)
        model.a_matrix_.index_ = np.array(rows, dtype=np.int32)
        model.a_matrix_.value_ = np.array(values)
        whole, parts = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        model.integrality_ = [parts] * partly + [whole] * len(self._free)
        self._highs = silent()
        self._highs.passModel(model)
        self._partly = partly

    def solve(self, *, gap: float, nodes: int, time_s: float) -> list[int] | None:
        highs = self._highs
        highs.setOptionValue("mip_rel_gap", 0.0)
        highs.setOptionValue("mip_abs_gap", gap)
        highs.setOptionValue("mip_max_nodes", nodes)
        highs.setOptionValue("time_limit", float(time_s))
        highs.setOptionValue("presolve", "off")  # HiGHS 1.16 loses costs of a first guess there
        if len(self._guess) == len(self._row):
            solution = highspy.HighsSolution()
            solution.col_value = self._guessed().tolist()
            highs.setSolution(solution)
        highs.run()
        if not has_solution(highs):
            return None
        values = np.array(highs.getSolution().col_value)[self._partly :]
        chosen = [self._free[place] for place in np.flatnonzero(values > 0.5)]
        return self._kept + chosen if len(chosen) == len(self._row) else None

    def _guessed(self) -> Floats:
        """The first guess, with what it rents beyond reservations."""
        master = self._master
        position = {index: place for place, index in enumerate(self._free)}
        values = np.zeros(self._partly + len(self._free))
        used = -self._left[master.count : master.count + self._partly]
        for index in self._guess:
            values[self._partly + position[index]] = 1.0
            for row, amount in master.entries(master.columns[index]).items():
                if master.count <= row < master.count + self._partly:
                    used[row - master.count] += amount
        values[: self._partly] = np.maximum(used, 0.0)
        return values
