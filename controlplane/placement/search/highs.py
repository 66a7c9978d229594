"""HiGHS as it is used here: silent, on one thread, with models put together column by column and row by row.

Takes a while to load: whoever seldom needs it imports this where it is used.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64] | Sequence[float]

#: What HiGHS calls a solution that keeps all rows.
_FEASIBLE = 2


#: Without HiGHS' searches in programs within the program, which it begins at the root whatever their effort may be.
NO_NEIGHBOURS: Mapping[str, bool | float] = {
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_rens": False,
}

#: Without any way to find plans that no node of its tree shows.
NO_HEURISTICS: Mapping[str, bool | float] = {
    **NO_NEIGHBOURS,
    "mip_heuristic_effort": 0.0,
    "mip_heuristic_run_feasibility_jump": False,
    "mip_heuristic_run_root_reduced_cost": False,
}


class _Silent(highspy.Highs):
    """Says nothing, not even its name: that is printed when callbacks are first asked for."""

    def enableCallbacks(self) -> None:  # noqa: N802
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()  # type: ignore[no-untyped-call]


def silent(**options: bool | float | str) -> Any:
    """A silent HiGHS on one thread (all of a process must have as many), with these options."""
    highs: Any = _Silent()  # type: ignore[no-untyped-call]
    highs.setOptionValue("threads", 1)
    for name, value in options.items():
        highs.setOptionValue(name, value)
    return highs


def is_optimal(highs: Any) -> bool:
    return bool(highs.getModelStatus() == highspy.HighsModelStatus.kOptimal)


def is_infeasible(highs: Any) -> bool:
    return bool(highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible)


def has_solution(highs: Any) -> bool:
    return bool(highs.getInfo().primal_solution_status == _FEASIBLE)


class Model:
    """Columns from 0 to a bound, and rows between two; everything is minimised."""

    def __init__(self) -> None:
        self.costs: list[float] = []
        self._uppers: list[float] = []
        self._whole: list[bool] = []
        self._lows: list[float] = []
        self._highs: list[float] = []
        self._starts: list[int] = [0]
        self._columns: list[int] = []
        self._values: list[float] = []

    def column(self, cost: float, *, upper: float = inf, whole: bool = True) -> int:
        """Where the new column is."""
        self.costs.append(cost)
        self._uppers.append(upper)
        self._whole.append(whole)
        return len(self.costs) - 1

    def columns(self, costs: Numbers, uppers: Numbers, whole: Sequence[bool] | npt.NDArray[np.bool_]) -> int:
        """Where the first of the new columns is."""
        first = len(self.costs)
        self.costs.extend(map(float, costs))
        self._uppers.extend(map(float, uppers))
        self._whole.extend(map(bool, whole))
        return first

    def row(self, terms: Mapping[int, float], *, low: float = -inf, high: float = inf) -> None:
        """Column -> what it counts."""
        self._columns.extend(terms)
        self._values.extend(terms.values())
        self._starts.append(len(self._columns))
        self._lows.append(low)
        self._highs.append(high)

    def passed(self, highs: Any, *, whole: bool = True) -> Any:
        """``highs`` with this model in it; not ``whole``: parts of everything are allowed."""
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self.costs), len(self._lows)
        model.col_cost_ = np.array(self.costs)
        model.col_lower_ = np.zeros(len(self.costs))
        model.col_upper_ = np.array(self._uppers)
        model.row_lower_, model.row_upper_ = np.array(self._lows), np.array(self._highs)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.array(self._starts, dtype=np.int32)
        model.a_matrix_.index_ = np.array(self._columns, dtype=np.int32)
        model.a_matrix_.value_ = np.array(self._values)
        if whole:
            integer, part = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
            model.integrality_ = [integer if one else part for one in self._whole]
        highs.passModel(model)
        return highs
