"""Health: what is a replica's state, given what was seen of it?

Evidence in (answers to probes, exits, orders), states out. The lives of things are tables of transitions,
one file each, with one door: an event that a state does not know changes nothing and comes back as a
Refusal. Pure: frozen dataclasses, no clock (times are arguments), no I/O. Never imports Django, ``apps``,
``controlplane`` or another room of this plane than ``protocol``.
"""
