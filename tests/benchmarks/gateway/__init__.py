"""The gateway beside its peers: what each carries on one core, and how well it chooses.

``python -m tests.benchmarks.gateway`` prints both tables (``make bench-gateway``). The peers are the routers of
vLLM and SGLang, installed from their wheels into an environment of their own.
"""
