"""The audit trail over REST."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import selectors
from apps.api.schema import page_of
from apps.api.views import MeridianView, Rights, Tenancy


class AuditEventSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    project = serializers.CharField(source="project.name", default=None, allow_null=True)
    actor = serializers.CharField()
    action = serializers.CharField()
    subject_type = serializers.CharField()
    subject_id = serializers.CharField()
    subject_name = serializers.CharField()
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)


class AuditFilters(serializers.Serializer[Any]):
    action = serializers.CharField(required=False)
    subject_type = serializers.CharField(required=False)
    subject_name = serializers.CharField(required=False)


@extend_schema(tags=["audit"])
class AuditView(MeridianView):
    """Who did what, newest first."""

    rights: ClassVar[Rights] = {"GET": "operate"}
    tenancy = Tenancy.ORGANIZATION
    filters = AuditFilters
    paged = True

    @extend_schema(operation_id="audit_list", responses=page_of(AuditEventSerializer))
    def get(self, request: Request) -> Response:
        events = selectors.audit_events(actor=self.actor, **self.filter_values)
        return self.page(events, AuditEventSerializer, ordering=("-id",))
