"""The wire between the two planes, and the few types both speak.

Question: what exactly is written on a connection or a disk that both planes, or an agent and its
gateway, must read the same way?

Versioned msgspec structs and the signatures around them, and the two kinds of files that agent and gateway
share (``statefile``, ``spool``; the only modules here that touch a disk); no clock, no decisions. Never
imports anything of the project. Readers ignore fields they do not know, so that a plane one version newer may
add some; a field is never renamed, never re-used and never changes its unit. Frozen samples of every message
lie in ``tests/wire/v1``.

Names of the counters, and what raises each:

``plane_epoch``         an operator, after restoring a back-up or promoting another control plane
``cluster_epoch``       the control plane, each time another instance of a cluster's agent takes over
``plan_generation``     every stored placement plan
``desired_generation``  any change of what one cluster shall run
``routing_generation``  any change of where one cluster's gateways may send
``keyset_generation``   any change of the API keys one cluster accepts
``observed_generation`` the agent, each time what it reports has changed
``endpoint_generation`` the agent, each time the replicas its gateways may use have changed
"""

WIRE_VERSION = 1
