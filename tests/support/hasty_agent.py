"""``python -m tests.support.hasty_agent``: the agent with short patience, for tests of what happens when it ends."""

import sys

from workloadplane.agent.__main__ import main
from workloadplane.agent.timings import AgentTimings

HASTY = AgentTimings(liveness_s=0.5, liveness_timeout_s=0.5, slow_sync_s=1.0, ended_kept_s=1.0)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], HASTY))
