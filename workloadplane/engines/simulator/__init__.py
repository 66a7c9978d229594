"""A simulated engine: OpenAI's HTTP interface in front of a model of continuous batching, without any weights.

Question: what would a client, a gateway, an autoscaler see if a real engine with this speed, this KV cache
and these faults stood here?

``kvcache``, ``batching`` and ``text`` are pure (no I/O, no clock, no randomness; time is an argument), so a
discrete-event simulator can run the same model. ``serving`` gives them a clock, ``connection`` a socket. The
process is meant to be run a hundred times on one machine, so it imports nothing heavy: no HTTP client, no
prometheus_client, none of the agent's modules.
"""
