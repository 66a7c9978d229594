"""Which replicas run on which pools: load, decide, apply."""
