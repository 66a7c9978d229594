from django.apps import AppConfig


class DrainsConfig(AppConfig):
    name = "apps.drains"
    label = "drains"
