"""A pure room's "no, because", as every document shows it."""

from typing import Any

from rest_framework import serializers


class RefusalSerializer(serializers.Serializer[Any]):
    """Why something was not done, and what would make it possible."""

    rule = serializers.CharField()
    subject = serializers.CharField()
    value = serializers.CharField()
    remedy = serializers.CharField()
