"""The control plane: the Django project, and the pure rooms of the global decisions.

``settings``, ``urls``, ``asgi`` and ``celery`` are framework only (the Celery application is
``controlplane.celery:application``). The other packages each answer one question and import neither Django nor
``apps``.
"""
