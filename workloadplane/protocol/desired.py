"""DesiredState: what one cluster shall run. Made by the control plane, read by the agent.

A table of kind ``desired``: ``DesiredHeader`` and one ``DesiredAssignment`` per assignment, keyed by its id.
"""

import msgspec


class PoolBound(msgspec.Struct, frozen=True, kw_only=True):
    """The room that a pool of this cluster has; the agent never starts replicas past it."""

    pool_id: str
    name: str
    procurement: str  # reserved | on_demand | spot
    instance_type: str
    gpus_per_instance: int
    capacity_gpus: int


class DesiredHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the cluster itself. ``cordoned``: nodes that are being emptied."""

    cluster_id: str
    cluster_name: str
    region: str
    jurisdiction: str
    pools: tuple[PoolBound, ...]
    cordoned: tuple[str, ...] = ()


class AutoscalingBounds(msgspec.Struct, frozen=True, kw_only=True):
    """The five factors, already cut to this assignment: the agent scales inside [min_replicas, max_replicas].

    policy:         predictive | kpa; one that an agent does not know is read as predictive
    slo_ttft_s_p95: within which 95 % of first tokens should come; None = no goal
    """

    min_replicas: int
    max_replicas: int
    autoscaling_window_s: float
    scale_down_delay_s: float
    concurrency_target: float
    policy: str = "predictive"
    slo_ttft_s_p95: float | None = None


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights. ``digest`` is ``sha256:<hex>`` over the model's files; ``source_uri`` is where they are."""

    name: str
    version: str
    digest: str
    source_uri: str
    precision: str
    max_context_tokens: int


class EngineSource(msgspec.Struct, frozen=True, kw_only=True):
    """Which engine image, pinned. ``arguments`` were checked against the engine's allow-list."""

    engine: str  # vllm | sglang | tensorrt_llm | nim | simulator
    version: str
    image_digest: str
    arguments: dict[str, str]


class AdapterSource(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter of the model. ``digest`` is ``sha256:<hex>`` over its files, ``source_uri`` where they are."""

    name: str
    digest: str
    source_uri: str
    rank: int


class DesiredAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas of one revision of one deployment on one pool of this cluster."""

    assignment_id: str
    deployment_id: str
    deployment: str  # its name: what clients send as ``model``
    project_id: str
    revision_id: str
    revision: int
    pool_id: str
    gpus_per_replica: int
    autoscaling: AutoscalingBounds
    model: ModelSource
    engine: EngineSource
    adapters: tuple[AdapterSource, ...] = ()  # each replica can serve all of them
    draining: bool = False  # finish what runs, take nothing new, then stop: bounds are then [0, 0]
