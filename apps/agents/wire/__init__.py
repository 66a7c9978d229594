"""The agents' calls home: ``POST /agent/v1/enrol`` and ``POST /agent/v1/sync``.

An ASGI application of its own in front of Django, because a heartbeat must cost one UPDATE and nothing else: Django's
handler, its middleware and its signals took four times what the whole heartbeat takes (docs/performance.md has the
measurement). What is more than a heartbeat goes through the services like everything else, on a few threads.

``application``  addresses, bounded bodies, answers
``sync``         one sync from bytes to answer
``heartbeat``    the statements of the short path
``doorbell``     who waits for which cluster's tables
``database``     connections of one event loop
"""
