"""One value of every message of the wire, every field set: what the frozen samples in ``tests/wire`` hold."""

import msgspec

from tests.support.records import usage_record
from workloadplane.protocol import desired, envelope, local, observed, refusal, routing, sync, tables, usage

_UUID = "6f9b2b0e-2f5e-4f0a-9a54-5c3d1b8a{:04x}"
_REFUSAL = refusal.Refusal(
    rule="pool_capacity", subject="pool h100", value="0 GPUs free", remedy="enlarge the pool"
)
_ENVELOPE = envelope.Envelope(
    kind="desired",
    payload=b'{"header":{},"entries":{}}',
    key_id="key-1",
    signature=bytes(range(64)),
    audience=_UUID.format(1),
    plane_epoch=2,
    generation=7,
)
_HISTOGRAM = usage.LatencyHistogram(counts=(0, 3, 1), sum_s=0.75)
_WINDOW = usage.MetricWindow(
    gateway_instance="gateway-1",
    sequence=3,
    started_at=1790000000.0,
    ended_at=1790000010.0,
    deployment_id=_UUID.format(2),
    revision_id=_UUID.format(3),
    requests=4,
    errors=1,
    input_tokens=40,
    output_tokens=80,
    in_flight_max=3,
    waiting_max=2,
    ttft=_HISTOGRAM,
    inter_token_latency=_HISTOGRAM,
    duration=_HISTOGRAM,
)
_REPLICA = observed.ObservedReplica(
    replica_id=_UUID.format(4),
    assignment_id=_UUID.format(5),
    deployment_id=_UUID.format(2),
    revision_id=_UUID.format(3),
    revision=3,
    pool_id=_UUID.format(6),
    engine="vllm",
    runtime_ref="process:1",
    state="ready",
    phase=None,
    reason="TokenGenerated",
    message="",
    created_at=1790000000.5,
    ready_at=1790000042.25,
    stopped_at=None,
    cold_start=observed.ColdStart(weight_load_s=11.5, engine_start_s=30.25),
    restarts=1,
)
_DELTA = observed.ObservedDelta(
    observed_generation=9,
    full=False,
    replicas=(_REPLICA,),
    gone=(_UUID.format(7),),
    conditions=(
        observed.ObservedCondition(
            assignment_id=_UUID.format(5),
            type="Degraded",
            status=True,
            reason="PoolCapacity",
            message="1 of 2 replicas: 0 GPUs free",
            refusal=_REFUSAL,
        ),
    ),
    facts=observed.ClusterFacts(
        agent_version="0.1.0",
        gateway_url="http://127.0.0.1:8881",
        engine_substitutions={"vllm": "simulator"},
        free_memory_bytes=8_000_000_000,
        held_generations={"desired": 7},
    ),
    state_hash="ab" * 32,
)
_ENDPOINT = local.Endpoint(
    replica_id=_UUID.format(4),
    deployment_id=_UUID.format(2),
    revision_id=_UUID.format(3),
    revision=3,
    pool_id=_UUID.format(6),
    engine="vllm",
    host="127.0.0.1",
    port=20001,
    engine_key="engine-key",
    served_model="chat",
    concurrency_target=8.0,
    state="ready",
)
_TABLE = tables.Table(manifest=_ENVELOPE, entries={"entry": b'{"a":1}'})

SAMPLES: dict[str, msgspec.Struct] = {
    "refusal": _REFUSAL,
    "envelope": _ENVELOPE,
    "manifest": tables.Manifest(header=msgspec.Raw(b'{"cluster_id":"c"}'), entries={"entry": "cd" * 32}),
    "table_update": tables.TableUpdate(manifest=_ENVELOPE, entries={"entry": b'{"a":1}'}),
    "table": _TABLE,
    "desired_header": desired.DesiredHeader(
        cluster_id=_UUID.format(1),
        cluster_name="eu-west",
        region="eu-west-1",
        jurisdiction="eu",
        pools=(
            desired.PoolBound(
                pool_id=_UUID.format(6),
                name="h100",
                procurement="spot",
                instance_type="h100.8",
                gpus_per_instance=8,
                capacity_gpus=64,
            ),
        ),
    ),
    "desired_assignment": desired.DesiredAssignment(
        assignment_id=_UUID.format(5),
        deployment_id=_UUID.format(2),
        deployment="chat",
        project_id=_UUID.format(8),
        revision_id=_UUID.format(3),
        revision=3,
        pool_id=_UUID.format(6),
        gpus_per_replica=2,
        autoscaling=desired.AutoscalingBounds(
            min_replicas=1,
            max_replicas=4,
            autoscaling_window_s=60.0,
            scale_down_delay_s=300.0,
            concurrency_target=8.0,
        ),
        model=desired.ModelSource(
            name="tiny-llama",
            version="1",
            digest="sha256:" + "ef" * 32,
            source_uri="file:///models/tiny-llama",
            precision="bfloat16",
            max_context_tokens=512,
        ),
        engine=desired.EngineSource(
            engine="vllm",
            version="0.32.0",
            image_digest="sha256:" + "01" * 32,
            arguments={"max_num_seqs": "8"},
        ),
        draining=True,
    ),
    "routing_header": routing.RoutingHeader(
        cluster_id=_UUID.format(1),
        cluster_name="eu-west",
        region="eu-west-1",
        jurisdiction="eu",
        gateway_url="http://127.0.0.1:8881",
        peers=(
            routing.Peer(
                cluster_id=_UUID.format(9),
                cluster_name="us-east",
                region="us-east-1",
                jurisdiction="us",
                url="http://127.0.0.1:8882",
                public_key=bytes(range(32)),
                rtt_ms=82.5,
            ),
        ),
        soft_ttl_s=30.0,
        hard_ttl_s=3600.0,
    ),
    "route": routing.Route(
        deployment_id=_UUID.format(2),
        deployment="chat",
        project_id=_UUID.format(8),
        model="tiny-llama",
        residency=("eu",),
        residency_ingress="forward",
        priority=1,
        posture="active_active",
        concurrency_target=8.0,
        scale_to_zero=True,
        revisions=(
            routing.RevisionRoute(
                revision_id=_UUID.format(3), revision=3, weight=90, cluster_ids=(_UUID.format(1),)
            ),
        ),
        created_at=1790000000,
    ),
    "keyset_header": routing.KeySetHeader(signing_keys={"key-1": bytes(range(32))}),
    "api_key_entry": routing.ApiKeyEntry(
        api_key_id=_UUID.format(10),
        sha256=bytes(range(32)),
        project_id=_UUID.format(8),
        scopes=("inference",),
        expires_at=1800000000.0,
    ),
    "api_key_entry_limited": routing.ApiKeyEntry(
        api_key_id=_UUID.format(10),
        sha256=bytes(range(32)),
        project_id=_UUID.format(8),
        scopes=("inference",),
        expires_at=None,
        limits=routing.RateLimits(requests_per_minute=600, tokens_per_minute=100_000, concurrent_requests=8),
        project_limits=routing.RateLimits(tokens_per_minute=1_000_000),
        max_priority="high",
    ),
    "enrol_request": sync.EnrolRequest(
        wire_version=1,
        token="one-time",
        public_key=bytes(range(32)),
        instance_id=_UUID.format(11),
        gateway_url="http://127.0.0.1:8881",
        agent_version="0.1.0",
        proof=bytes(range(64)),
    ),
    "enrol_response": sync.EnrolResponse(
        cluster_id=_UUID.format(1),
        cluster_name="eu-west",
        cluster_epoch=1,
        plane_epoch=2,
        signing_keys={"key-1": bytes(range(32))},
    ),
    "sync_request": sync.SyncRequest(
        wire_version=1,
        cluster_id=_UUID.format(1),
        instance_id=_UUID.format(11),
        cluster_epoch=1,
        plane_epoch=2,
        sequence=5,
        wait_s=2.0,
        held={"desired": 7, "routing": 6, "keyset": 0},
        observed=_DELTA,
        loads=(
            observed.ReplicaLoad(
                replica_id=_UUID.format(4),
                running=2,
                waiting=1,
                kv_cache_usage=0.25,
                prompt_tokens_total=100,
                generation_tokens_total=200,
            ),
        ),
        usage=(usage_record("gateway-1", 1),),
        windows=(_WINDOW,),
    ),
    "sync_response": sync.SyncResponse(
        wire_version=1,
        plane_epoch=2,
        cluster_epoch=1,
        tables={"desired": tables.TableUpdate(manifest=_ENVELOPE, entries={"entry": b'{"a":1}'})},
        observed_acknowledged=9,
        observed_full_wanted=False,
        usage_acknowledged={"gateway-1": 1},
        windows_acknowledged={"gateway-1": 3},
        refusal=_REFUSAL,
    ),
    "local_identity": local.Identity(
        cluster_id=_UUID.format(1), cluster_name="eu-west", signing_keys={"key-1": bytes(range(32))}
    ),
    "local_plane_heard": local.PlaneHeard(at_monotonic_s=1234.5),
    "local_table_push": local.TablePush(kind="desired", table=_TABLE),
    "local_endpoints": local.EndpointSet(endpoint_generation=4, endpoints=(_ENDPOINT,)),
    "local_hello": local.Hello(gateway_instance="gateway-1", pid=4242),
    "local_acknowledgement": local.Acknowledgement(kind="endpoints", generation=4),
    "local_load": local.LoadReport(
        gateway_instance="gateway-1",
        deployments=(
            local.DeploymentLoad(
                deployment_id=_UUID.format(2), revision_id=_UUID.format(3), in_flight=2, waiting=1
            ),
        ),
        in_flight_by_replica={_UUID.format(4): 2},
    ),
    "adapter_source": desired.AdapterSource(
        name="sql", digest="sha256:" + "a" * 64, source_uri="file:///adapters/sql", rank=8
    ),
    "local_engine_loads": local.EngineLoads(
        loads=(
            local.EngineLoad(
                replica_id=_UUID.format(4),
                at_monotonic_s=1234.5,
                running=3,
                waiting=1,
                kv_cache_usage=0.25,
                kv_capacity_tokens=131072,
            ),
        ),
    ),
}

SAMPLES |= {
    "route_of_what_runs_nowhere": routing.Route(
        deployment_id=_UUID.format(2),
        deployment="chat",
        project_id=_UUID.format(8),
        model="tiny-llama",
        residency=(),
        residency_ingress="forward",
        priority=0,
        posture="active_passive",
        concurrency_target=8.0,
        scale_to_zero=False,
        revisions=(),
        created_at=1790000000,
        placed=False,
        refusal=_REFUSAL,
    ),
    "plane_heard_with_a_table": local.PlaneHeard(at_monotonic_s=12.5, routing_generation=7),
    "cluster_facts_with_gateways": msgspec.structs.replace(_DELTA.facts, gateway_generations={"routing": 6}),
    "cluster_facts_with_gateways_connected": msgspec.structs.replace(
        _DELTA.facts, gateway_generations={"routing": 6}, gateways_connected=2
    ),
    "cluster_facts_with_peers": msgspec.structs.replace(
        _DELTA.facts,
        gateways_connected=1,
        peers=(
            observed.PeerStanding(
                cluster_id=_UUID.format(9), state="ejected", has_lost=True, cause="silent", state_for_s=1.4
            ),
        ),
    ),
    "autoscaling_bounds_of_a_policy": desired.AutoscalingBounds(
        min_replicas=0,
        max_replicas=4,
        autoscaling_window_s=60.0,
        scale_down_delay_s=300.0,
        concurrency_target=8.0,
        policy="kpa",
        slo_ttft_s_p95=0.8,
    ),
    "scaling_decision": observed.ScalingDecision(
        deployment_id=_UUID.format(2),
        revision_id=_UUID.format(3),
        decided_at=1790000000.25,
        policy="predictive",
        replicas=3,
        ready=2,
        at_hand=21.5,
        reasons=("21.50 requests at hand", "max_replicas is 3"),
    ),
    "deployment_load_with_totals": local.DeploymentLoad(
        deployment_id=_UUID.format(2),
        revision_id=_UUID.format(3),
        in_flight=2,
        waiting=0,
        requests_total=41,
        input_tokens_total=1200,
        output_tokens_total=5000,
        ttft_counts=(0, 3, 38),
    ),
    "local_load_with_peers": local.LoadReport(
        gateway_instance="gateway-1",
        deployments=(),
        in_flight_by_replica={},
        peers=(observed.PeerStanding(cluster_id=_UUID.format(9), state="healthy", has_lost=False),),
    ),
    "cluster_facts_with_notices": msgspec.structs.replace(
        _DELTA.facts,
        notices=(
            observed.Notice(
                pool="spot",
                node="node-1",
                deadline_at=1790000120.0,
                reason="the provider takes it back: terminate",
                provider="aws",
            ),
        ),
    ),
    "cluster_facts_with_nodes": msgspec.structs.replace(
        _DELTA.facts,
        nodes=(
            observed.ObservedNode(
                name="h100-1", pool_id=_UUID.format(6), gpus=8, cordoned=True, replicas=(_UUID.format(4),)
            ),
        ),
    ),
    "cluster_facts_with_state_unkept": msgspec.structs.replace(
        _DELTA.facts, state_unkept="No space left on device"
    ),
    "endpoint_handed_over": msgspec.structs.replace(_ENDPOINT, state="draining", hand_over=True),
    "manifest_issued": tables.Manifest(
        header=msgspec.Raw(b'{"signing_keys":{}}'), entries={"entry-1": "ab" * 32}, issued_at=1790000000.125
    ),
}
SAMPLES["route_withheld"] = msgspec.structs.replace(SAMPLES["route"], withheld=(_UUID.format(1),))
SAMPLES["desired_header_cordoned"] = msgspec.structs.replace(SAMPLES["desired_header"], cordoned=("h100-1",))
SAMPLES["routing_header_forwarding"] = msgspec.structs.replace(
    SAMPLES["routing_header"], forwarding_ttl_s=86400.0
)
