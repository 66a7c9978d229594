"""Health: what is the state of a replica, a peer's gateway or a region, given what was seen of it?

Evidence in (answers to probes, exits, orders, others' words), states out. The lives of things are tables of
transitions, one file each (``replica``, ``domain``), with one door: an event that a state does not know changes
nothing and comes back as a Refusal. Pure: frozen values, no clock (times are arguments), no I/O. Never imports
Django, ``apps``, ``controlplane`` or another room of this plane than ``protocol``.
"""
