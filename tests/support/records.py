"""Wire records with plausible values, for tests that care about one of their fields."""

import msgspec

from workloadplane.protocol.usage import UsageRecord


def usage_record(gateway_instance: str, sequence: int, **changes: object) -> UsageRecord:
    """One finished chat request."""
    record = UsageRecord(
        gateway_instance=gateway_instance,
        sequence=sequence,
        request_id=f"request-{sequence}",
        finished_at=1_790_000_000.25,
        project_id="project-1",
        api_key_id="key-1",
        deployment_id="deployment-1",
        revision_id="revision-1",
        revision=1,
        replica_id="replica-1",
        pool_id="pool-1",
        served_cluster_id="cluster-1",
        origin="eu-west-1",
        request_class="interactive",
        route="/v1/chat/completions",
        status=200,
        outcome="ok",
        input_tokens=12,
        cached_tokens=4,
        output_tokens=34,
        queue_s=0.001,
        ttft_s=0.05,
        duration_s=0.9,
        inter_token_latency_s_mean=0.02,
        inter_token_latency_s_max=0.06,
    )
    return msgspec.structs.replace(record, **changes)
