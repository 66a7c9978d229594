"""What do people ask of plans: why there, what would change, by how little would it fit, what if?

``explain`` gives each pool's reason, ``diff`` compares two plans, ``elastic`` finds the smallest change that helps,
``what_if`` makes another world of this one. Imports solvers and judge; none of them imports this.
"""
