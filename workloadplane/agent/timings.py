"""How often the agent looks, and how long it waits."""

from dataclasses import dataclass, field

from workloadplane.health.probes import ProbePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTimings:
    """All in seconds.

    reconcile_s:           between two passes when nothing calls for one
    scrape_s:              between two readings of a replica's metrics
    start_probe_s:         longest pause between two probes of a replica that starts
    start_probe_timeout_s: for its first token; engines compile at their first request
    liveness_s:            between two checks of a ready replica that is idle
    liveness_timeout_s:    for its one token; errs on the patient side, as a false alarm costs a cold start
    suspected_timeout_s:   the same for one that a gateway avoids, as it has evidence of its own
    sync_wait_s:           how long the control plane may hold a sync that has nothing new
    slow_sync_s:           between syncs of an agent that has been superseded or fenced
    back_off_base_s, back_off_cap_s: pauses between calls home that fail
    notice_poll_s:         between two looks at whatever tells of capacity that is taken back
    ended_kept_s:          how long a replica that ended is still reported
    shutdown_s:            what an engine may take to finish after SIGTERM
    """

    reconcile_s: float = 2.0
    scrape_s: float = 2.0
    start_probe_s: float = 1.0
    start_probe_timeout_s: float = 60.0
    liveness_s: float = 5.0
    liveness_timeout_s: float = 10.0
    suspected_timeout_s: float = 3.0
    sync_wait_s: float = 1.0
    slow_sync_s: float = 10.0
    back_off_base_s: float = 0.5
    back_off_cap_s: float = 10.0
    notice_poll_s: float = 1.0
    ended_kept_s: float = 60.0
    shutdown_s: float = 30.0
    probes: ProbePolicy = field(default_factory=ProbePolicy)
