"""How replicas come to run: as local processes now, as pods elsewhere. ``base.py`` is what they share.

``process.ProcessRuntime(state_dir=..., engines_dir=..., cache_dir=...)`` runs them on this machine;
``process.stop_all(state_dir)`` ends all that it started, also long after its agent has died.
"""
