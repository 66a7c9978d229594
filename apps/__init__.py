"""The Django apps of the control plane.

Services write, selectors read; ``apps.X`` reaches ``apps.Y`` through those alone.
"""
