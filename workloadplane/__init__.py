"""The workload plane: what runs beside the GPUs in every cluster.

Agent and gateway, the pure rooms they decide with, the engines they start and the wire they speak.
Nothing here imports Django, ``apps`` or ``controlplane``.
"""
