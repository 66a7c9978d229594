"""How does the whole of Meridian run on one machine, from nothing, without root or containers?

This room starts real parts (PostgreSQL and Valkey from wheels, the control plane, three workload
planes, the edge), keeps them alive and ends them. It knows the programs by their command lines and
never imports them: ``apps``, ``controlplane`` and ``workloadplane`` stay unaware of it.
"""
