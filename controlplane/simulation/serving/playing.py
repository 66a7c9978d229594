"""A world for one policy after the other: which mode plays it, and what that mode runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.simulation.serving.by_request import RequestMode
from controlplane.simulation.serving.fluid_mode import play_fluid
from controlplane.simulation.serving.fluid_regions import FluidRegions
from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.policies_document import choices_of
from controlplane.simulation.serving.world import OpenLines, ServingWorld, Survey, requests_in

#: With more requests than this the sum of them is played, unless the world says otherwise.
REQUESTS_ONE_BY_ONE_MAX = 2_000_000
#: What each mode runs, in words that stand in every report.
RUNS: Mapping[str, str] = {
    "request": (
        "Each request is played by itself: the gateway's picker chooses its replica, the gateway's waiting room "
        "orders, bounds and refuses those that wait, the agent's autoscaler counts replicas, the control plane's blend "
        "of spot and on demand rents them if the world says so, and its rule for asynchronous work runs jobs. "
        "Replicas, launches and failures are models; processes, and networks but for the ways between regions, take "
        "no time; caches are not modelled. With several regions the gateway's picker also chooses the region, and its "
        "observers of health leave a lost one and trust it again; if the world says so, the control plane's placement "
        "gives each region its bounds and moves them, and its leases and promotion say which one of them serves."
    ),
    "fluid": (
        "The sum of all requests is played, as work that flows: the agent's autoscaler counts replicas. Picker and "
        "waiting room are not run: whoever waits is served in the order of arrival, by all replicas alike. "
        "Replicas and launches are models. Where the world has the blend or jobs, both run, and failures, spot and "
        "stock-outs are played; else pools are filled in their order, as if all were to be had. With several regions "
        "they always are, the gateway's picker is asked where those at the end of a line go, and the control plane's "
        "placement bounds regions if the world says so; observers of health are not run."
    ),
}


@dataclass(slots=True)
class Play:
    """One policy's. ``run`` it; ``mode`` says how."""

    world: ServingWorld
    seen: Survey
    policy: str
    open_lines: OpenLines

    @property
    def mode(self) -> str:
        """``request`` or ``fluid``."""
        if self.world.mode != "auto":
            return self.world.mode
        if self.world.posture == "active_passive":
            return "request"
        return "request" if self.seen.requests <= REQUESTS_ONE_BY_ONE_MAX else "fluid"

    def run(self, progress: Callable[[float], None] = lambda share: None) -> Outcome:
        """What came of it. ``progress`` hears the share that is done.

        Raises WorldError for a policy that there is not, TraceError for a file that has changed.
        """
        choices = choices_of(self.world, self.policy)
        if self.mode == "fluid" and len(self.world.geography.regions) > 1:
            regions = FluidRegions(self.world, self.seen, choices, self.policy)
            regions.play(progress)
            return regions.outcome()
        if self.mode == "fluid":
            return play_fluid(self.world, self.seen, choices[0], self.policy, progress)
        mode = RequestMode(self.world, self.seen, choices, self.policy)
        for now_s in mode.play(requests_in(self.world, self.open_lines)):
            progress(min(1.0, now_s / self.seen.end_s))
        return mode.outcome()
