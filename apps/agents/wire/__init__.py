"""The agents' calls home: ``POST /agent/v1/enrol``, ``/sync`` and, while somebody reads logs, ``/logs``.

An ASGI application of its own in front of Django, because a heartbeat must cost one UPDATE and little else: measured
under granian, an empty view behind Django's handler, middleware and signals takes 2.2 ms of processor time, a whole
heartbeat here 0.5 ms (tests/benchmarks/bench_sync.py). What is more than a heartbeat goes through the services like
everything else, on a few threads.

``application``  addresses, bounded bodies, answers
``sync``         one sync from bytes to answer
``heartbeat``    the statements of the short path
``doorbell``     who waits for which cluster's tables
``database``     connections of one event loop
"""
