"""The gateway: carries every inference request from a client to a replica, here or in another region.

Its own process beside the agent, asyncio on uvloop with httptools at protocol level. It decides nothing that
outlives a request: whom to let in and where to send come from signed tables (``registry``), which replica from
the pure room ``workloadplane.routing``. It goes on serving from disk with agent and control plane dead.

How a request travels through the modules::

    server    bytes of a client connection -> requests, and responses -> bytes
    dispatch  a request -> its route: answered here (``local_routes``), or relayed
    admission whose key, which deployment
    entry     its place in the queue, its limits; ``queueing`` decides, ``turns`` says whose turn it is
    relay     one relayed request's life: choose, send, stream, retry, hold, finish
    upstream  pooled connections to replicas and peer gateways
    sse       the stream, scanned and never re-written

No callback waits: a request costs no task, and time limits are kept by one sweep over what is open.
"""
