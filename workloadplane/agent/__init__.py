"""The agent: makes one cluster run what the control plane wants, and tells it what really runs.

Question: which replicas does this machine start, drain and stop now, and what do the gateways beside it
need to know?

It calls home (enrolment once, then sync only), keeps the last tables on its disk and works from them when
the control plane is away. Decisions are taken in pure rooms (``reconcile``, ``workloadplane.autoscaling``,
``workloadplane.health``); this package does the I/O around them. Imports ``protocol``, ``engines``,
``runtimes``, ``autoscaling`` and ``health``; never the gateway's or routing's rooms, Django, ``apps`` or
``controlplane``.
"""

AGENT_VERSION = "0.1.0"
