"""One drill from its statement to its report: the clients, the phases, the fault, and the way back."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from meridian.cli.context import Login
from meridian.cli.drill_faults import Breaker
from meridian.client import Client, Document
from meridian.errors import MeridianError, Unreachable
from meridian.probes import Probes, Watch
from workloadplane.words import counted

OPEN = ("before", "during", "after")
_TELL_EVERY_S = 1.0
_LOOK_EVERY_S = 0.1
_MEND_MARGIN_S = 15.0
_LINKED_WITHIN_S = 30.0
_BATCH_MAX = 1000
_FAULTS = {
    "lose-region": "kill",
    "lose-provider": "kill",
    "lose-control-plane": "control",
    "slow-region": "slow",
}
#: What lies between regions is held in hand first; the fault itself begins later.
NETWORK = ("latency", "partition-one-way", "partition-two-way")


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for. ``frozen``: SIGSTOP instead of SIGKILL."""

    kind: str
    target: str
    deployment: str
    method: str
    fault_s: float
    before_s: float
    settle_s: float
    per_s: float
    accept_risk: bool
    limits: dict[str, float]
    frozen: bool = False
    delay_s: float = 0.0

    @property
    def what(self) -> Document:
        return {
            "kind": self.kind,
            "target": self.target,
            "deployment": self.deployment,
            "method": self.method,
        }

    @property
    def place(self) -> str:
        return f"{self.kind} {self.target}".strip()

    @property
    def fault(self) -> str:
        """As the supervisor calls it."""
        return "freeze" if self.frozen else _FAULTS[self.kind]


@dataclass
class DrillRun:
    """``show`` is told of every look: the drill's phase, seconds since it began, and what was seen until then."""

    client: Client
    login: Login
    wanted: Wanted
    breaker: Breaker
    show: Callable[["DrillRun"], None] = lambda run: None
    drill: Document = field(default_factory=dict)
    probes: Probes = field(init=False)
    watch: Watch = field(init=False)
    phase: str = "before"
    began_s: float = 0.0
    injected_at_s: float | None = None
    _batch: int = 0
    _untold: list[dict[str, Any]] = field(default_factory=list)
    _told_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began_s

    def run(self) -> Document:
        """The drill with its report. Whatever ends it, what is broken is mended and the drill is over."""
        self.drill = self._started()
        self.began_s = time.monotonic()
        try:
            doors, others = self._doors()
            self.watch = Watch(others, frozenset(self.drill["blast"]["regions"]), self.began_s)
            with Probes(
                doors, self.login.api_key, self.wanted.deployment, self.wanted.per_s, self.began_s
            ) as self.probes:
                self._measure()
        except KeyboardInterrupt:
            self._give_up()
            raise MeridianError(f"{self.wanted.place} was aborted; all is put back") from None
        except BaseException:
            self._give_up()
            raise
        if self.drill["state"] in OPEN:
            self._tell(all_of_it=True)
        if self.drill["state"] in OPEN:
            self.drill = self._post("report", detected_at_s=self.watch.ejected_at_s)
        return self.drill

    def _started(self) -> Document:
        wanted = self.wanted
        body = wanted.what | {
            "driver": "client",
            "fault_s": wanted.fault_s,
            "limits": wanted.limits,
            "accept_risk": wanted.accept_risk,
        }
        return self.client.request("POST", "drills", body=body)[0]

    def _doors(self) -> tuple[list[str], list[str]]:
        """Where clients ask (of a network also at each gateway), and the gateways elsewhere that are watched."""
        edge = self.client.inference_url
        if edge is None:
            raise MeridianError("no gateway is known; log in with its address: `meridian login`")
        lost = set(self.drill["blast"]["regions"])
        regions = self.client.regions()["regions"]
        known = {one["region"]: one["url"] for one in regions if one["url"]}
        doors = [edge, *known.values()] if self.wanted.kind in NETWORK else [edge]
        return doors, [url for region, url in known.items() if region not in lost]

    def _measure(self) -> None:
        try:
            if self.wanted.kind in NETWORK:
                self._hold_links()
            self._phases()
        finally:
            if self.wanted.kind in NETWORK:
                self.breaker.end()

    def _hold_links(self) -> None:
        """Until every gateway calls the others through ports where calls can be made late, or cut."""
        own = {one["region"]: one["url"] for one in self.client.regions()["regions"]}
        self.breaker.begin("links", (), self.wanted.limits["duration_s_max"] + _MEND_MARGIN_S)
        by_s = self.elapsed_s + _LINKED_WITHIN_S

        def linked() -> bool:
            now = {one["region"]: one["url"] for one in self.client.regions()["regions"]}
            return all(now.get(region) not in (None, url) for region, url in own.items())

        self._until(lambda: linked() or self.elapsed_s >= by_s)
        if not linked():
            raise MeridianError(
                f"not all gateways were told the others' new addresses in {_LINKED_WITHIN_S:.0f} s"
            )

    def _phases(self) -> None:
        before_until_s = self.elapsed_s + self.wanted.before_s
        if not self._until(lambda: self.elapsed_s >= before_until_s):
            return
        for_s = self.wanted.fault_s + _MEND_MARGIN_S
        self.drill = self._post("inject")
        self.injected_at_s, self.phase = self.elapsed_s, "during"
        regions = self.drill["blast"]["regions"]
        if self.wanted.kind in NETWORK:
            self.breaker.links(self.wanted.kind, regions, self.wanted.delay_s)
        elif self.wanted.method == "faults":
            self.breaker.begin(self.wanted.fault, regions, for_s)
        until_s = self.elapsed_s + self.wanted.fault_s
        goes_on = self._until(lambda: self.elapsed_s >= until_s)
        if self.wanted.kind in NETWORK:
            self.breaker.links("", (), 0.0)
        else:
            self.breaker.end()
        repaired_at_s = self.elapsed_s
        if not goes_on:
            return
        self.phase = "after"
        self._reachable_again()
        self.drill = self._post("repair", at_s=repaired_at_s)
        self.watch.states.clear()
        settled_by_s = repaired_at_s + self.wanted.settle_s
        least_s = repaired_at_s + self.wanted.before_s
        self._until(lambda: self.elapsed_s >= settled_by_s or (self.elapsed_s >= least_s and self._settled()))

    def _settled(self) -> bool:
        """Whether all is back: the others send there again, and what is wanted is ready."""
        if not self.watch.all_healthy:
            return False
        try:
            deployment = self.client.get(f"deployments/{self.wanted.deployment}")
        except MeridianError:
            return False
        said = {one["type"]: one["status"] for one in deployment["conditions"]}
        return bool(said.get("Ready")) and not said.get("Progressing")

    def _until(self, is_over: Callable[[], bool]) -> bool:
        """Look, tell and show until then; False where the drill was ended for what was seen."""
        while not is_over():
            self.watch.look()
            self._tell()
            self.show(self)
            if self.drill["state"] not in OPEN:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    def _tell(self, *, all_of_it: bool = False) -> None:
        """Send what was seen; while the control plane is away it is kept, and the budget is watched here."""
        if self.elapsed_s - self._told_s < _TELL_EVERY_S and not all_of_it:
            return
        self._told_s = self.elapsed_s
        self._untold += [seen.sample() for seen in self.probes.take()]
        while self._untold:
            batch, rest = self._untold[:_BATCH_MAX], self._untold[_BATCH_MAX:]
            body = {"sequence": self._batch, "elapsed_s": self.elapsed_s, "samples": batch}
            try:
                self.drill = self.client.request("POST", f"drills/{self.drill['id']}/samples", body=body)[0]
            except Unreachable:
                if self.wanted.kind != "lose-control-plane" or all_of_it:
                    raise
                self._budget_check()
                return
            self._batch, self._untold = self._batch + 1, rest

    def _budget_check(self) -> None:
        """Nobody else can now."""
        failed = sum(seen.outcome in ("failed", "broken") for seen in self.probes.seen)
        if failed > max(2, self.wanted.limits["error_budget_share"] * len(self.probes.seen)):
            raise MeridianError(
                f"{counted(failed, 'request')} failed while the control plane was away: the drill is over"
            )

    def _reachable_again(self) -> None:
        """The control plane may still be on its way back."""
        deadline_s = time.monotonic() + self.wanted.settle_s
        while True:
            try:
                self.client.get(f"drills/{self.drill['id']}")
                return
            except MeridianError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(_LOOK_EVERY_S)

    def _post(self, step: str, **more: Any) -> Document:
        body = {"at_s": self.elapsed_s, **more}
        return self.client.request("POST", f"drills/{self.drill['id']}/{step}", body=body)[0]

    def _give_up(self) -> None:
        """Mend first; the drill's own deadline ends it where the control plane can't be told."""
        try:
            self.breaker.end()
        finally:
            with contextlib.suppress(MeridianError):
                self.client.request("POST", f"drills/{self.drill['id']}/abort")
