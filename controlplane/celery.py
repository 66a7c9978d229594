"""The Celery application: the doorbell. Rows in PostgreSQL are the queue of truth, so a lost task loses nothing."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.production")

application = Celery("meridian")
application.config_from_object("django.conf:settings", namespace="CELERY")
application.autodiscover_tasks()
