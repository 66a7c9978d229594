"""Documents of replicas and agents: read only, made by agents."""

from typing import Any

from rest_framework import serializers

from apps.agents.models import Node, Replica, ReplicaState
from apps.api.validation import StrictCharField, StrictChoiceField


class ColdStartSerializer(serializers.Serializer[Any]):
    """Seconds by phase; null = that phase was not passed."""

    gpu_procurement_s = serializers.FloatField(allow_null=True)
    image_pull_s = serializers.FloatField(allow_null=True)
    weight_load_s = serializers.FloatField(allow_null=True)
    engine_start_s = serializers.FloatField(allow_null=True)


class LoadSerializer(serializers.Serializer[Any]):
    """As last scraped; null before that."""

    running = serializers.IntegerField()
    waiting = serializers.IntegerField()
    kv_cache_usage = serializers.FloatField(allow_null=True)
    prompt_tokens_total = serializers.IntegerField()
    generation_tokens_total = serializers.IntegerField()


class ReplicaSerializer(serializers.Serializer[Replica]):
    id = serializers.UUIDField()
    deployment = serializers.CharField(source="deployment.name")
    revision = serializers.IntegerField(source="revision.number")
    cluster = serializers.CharField(source="cluster.name")
    pool = serializers.CharField(source="pool.name")
    engine = serializers.CharField(help_text="what truly runs, also where the cluster substitutes an engine")
    state = serializers.ChoiceField(choices=ReplicaState.choices)
    phase = serializers.CharField(allow_null=True, help_text="of its start, while it starts")
    reason = serializers.CharField()
    message = serializers.CharField()
    restarts = serializers.IntegerField()
    cold_start = ColdStartSerializer(source="*")
    load = serializers.SerializerMethodField()
    started_at = serializers.DateTimeField()
    ready_at = serializers.DateTimeField(allow_null=True)
    stopped_at = serializers.DateTimeField(allow_null=True)
    gone_at = serializers.DateTimeField(allow_null=True, help_text="when its agent reported it no more")

    def get_load(self, replica: Replica) -> LoadSerializer(allow_null=True):  # type: ignore[valid-type]
        return replica.load or None


class NodeSerializer(serializers.Serializer[Node]):
    """A machine of a pool, as its cluster's agent tells it."""

    name = serializers.CharField()
    cluster = serializers.CharField(source="cluster.name")
    pool = serializers.CharField(source="pool.name")
    gpus = serializers.IntegerField()
    cordoned = serializers.BooleanField(
        help_text="it takes no new replica: it is being emptied, or taken back"
    )
    replicas = serializers.SerializerMethodField(help_text="that hold GPUs of it")

    def get_replicas(self, node: Node) -> int:
        return len(node.replica_ids)


class NodeFilters(serializers.Serializer[Any]):
    """Query parameters of the list."""

    cluster = StrictCharField(required=False, help_text="Only those of this cluster.")
    pool = StrictCharField(required=False, help_text="Only those of pools of this name.")


class ReplicaFilters(serializers.Serializer[Any]):
    """Query parameters of the list."""

    deployment = StrictCharField(required=False, help_text="Only those of this deployment.")
    cluster = StrictCharField(required=False, help_text="Only those in this cluster.")
    state = StrictChoiceField(choices=ReplicaState.choices, required=False)
    present = serializers.BooleanField(
        required=False, help_text="Only those that their agent still reports, or only those that it does not."
    )


class DeploymentReplicaFilters(serializers.Serializer[Any]):
    """Query parameters of a deployment's replicas."""

    cluster = StrictCharField(required=False, help_text="Only those in this cluster.")
    state = StrictChoiceField(choices=ReplicaState.choices, required=False)
    present = serializers.BooleanField(
        required=False, help_text="true (the default): those that run; false: those that are gone."
    )


class DeploymentLogFilters(serializers.Serializer[Any]):
    """Query parameters of a deployment's logs."""

    replica = StrictCharField(
        required=False, min_length=8, max_length=36, help_text="Only this one: its id, or how that begins."
    )
    after = serializers.IntegerField(
        required=False, min_value=0, max_value=2**63 - 1, help_text="The cursor of the reading before."
    )
    tail = serializers.IntegerField(
        required=False, min_value=0, max_value=10_000, help_text="Only so many of each replica's last lines."
    )


class LogSourceSerializer(serializers.Serializer[Any]):
    """A replica whose log is read."""

    replica = serializers.UUIDField()
    cluster = serializers.CharField()
    state = serializers.ChoiceField(choices=ReplicaState.choices)
    delivery = serializers.ChoiceField(
        choices=("waiting", "delivered", "no_log", "agent_away"),
        help_text="delivered: all that the cluster had until a second or two ago is here; no_log: none is kept there",
    )


class LogTextSerializer(serializers.Serializer[Any]):
    """Lines of one replica."""

    replica = serializers.UUIDField()
    text = serializers.CharField()


class LogReadingSerializer(serializers.Serializer[Any]):
    """What is new since ``after``."""

    replicas = LogSourceSerializer(many=True)
    items = LogTextSerializer(many=True)
    cursor = serializers.IntegerField(help_text="for `after` of the next reading")


class AgentSerializer(serializers.Serializer[Any]):
    """Who speaks for a cluster; nulls until an agent has enrolled."""

    enrolled = serializers.BooleanField()
    connected = serializers.BooleanField(help_text="its lease runs")
    fenced = serializers.BooleanField(
        help_text="two agents spoke for the cluster; enrol one with a new token"
    )
    cluster_epoch = serializers.IntegerField(allow_null=True)
    instance_id = serializers.CharField(allow_null=True)
    agent_version = serializers.CharField(allow_null=True)
    gateway_url = serializers.CharField(allow_null=True)
    engine_substitutions = serializers.DictField(child=serializers.CharField())
    observed_generation = serializers.IntegerField(allow_null=True)
    held_generations = serializers.DictField(
        child=serializers.IntegerField(), help_text="tables that it has in use"
    )
    newest_generations = serializers.DictField(
        child=serializers.IntegerField(), help_text="tables made for it"
    )
    last_sync_at = serializers.DateTimeField(allow_null=True)
    lease_expires_at = serializers.DateTimeField(allow_null=True)
