"""May this deployment use this pool at all? Every rule that says no, each with what would make it yes.

Rules about capacity are not here: these hold however empty a pool is.
"""

from collections.abc import Callable

from controlplane.placement.supply import Cluster, Pool
from controlplane.placement.wishes import ENGINE_VENDORS, WEIGHTS_MEMORY_SHARE, WantedDeployment
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

GIB = 1024**3


def lawful(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> tuple[Refusal, ...]:
    """The rules that bind always, also for what runs already: where it may be, and with whom."""
    return _refusals((_residency, _provider), deployment, pool, cluster)


def suitable(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> tuple[Refusal, ...]:
    """The rules about what fits what: the hardware's, and that failure domains to survive are known."""
    return (*runnable(deployment, pool, cluster), *locatable(deployment, pool, cluster))


def runnable(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> tuple[Refusal, ...]:
    """The rules about machines: precision, engine, GPUs, memory."""
    return _refusals((_gpus_per_instance, _precision, _engine, _memory), deployment, pool, cluster)


def locatable(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> tuple[Refusal, ...]:
    """Of what must be survived it is known what takes the cluster."""
    return _refusals((_failure_domain,), deployment, pool, cluster)


def open_to_new(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> tuple[Refusal, ...]:
    """The rules about who gets something new; what runs there already may stay."""
    return _refusals((_cluster_open, _pool_open, _price_known), deployment, pool, cluster)


_Rule = Callable[[WantedDeployment, Pool, Cluster], Refusal | None]


def _refusals(
    rules: tuple[_Rule, ...], deployment: WantedDeployment, pool: Pool, cluster: Cluster
) -> tuple[Refusal, ...]:
    answers = (rule(deployment, pool, cluster) for rule in rules)
    return tuple(answer for answer in answers if answer is not None)


def _subject(pool: Pool, cluster: Cluster) -> str:
    return f"pool {cluster.name}/{pool.name}"


def _residency(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    if not deployment.residency or (cluster.jurisdiction and cluster.jurisdiction in deployment.residency):
        return None
    return Refusal(
        rule="residency",
        subject=_subject(pool, cluster),
        value=f"jurisdiction {cluster.jurisdiction or 'unknown'}",
        remedy=f"only {', '.join(deployment.residency)} is allowed: add capacity there, or widen residency",
    )


def _provider(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    denied = cluster.provider in deployment.providers_denied
    allowed = not deployment.providers_allowed or cluster.provider in deployment.providers_allowed
    if allowed and not denied:
        return None
    return Refusal(
        rule="provider",
        subject=_subject(pool, cluster),
        value=f"provider {cluster.provider}",
        remedy="allow this provider for the deployment, or add capacity at an allowed one",
    )


def _gpus_per_instance(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    if deployment.gpus_per_replica <= pool.gpus_per_instance:
        return None
    return Refusal(
        rule="gpus_per_instance",
        subject=_subject(pool, cluster),
        value=f"{counted(pool.gpus_per_instance, 'GPU')} per {pool.instance_type}",
        remedy=f"a replica needs {counted(deployment.gpus_per_replica, 'GPU')} inside one instance:"
        " use a larger instance type",
    )


def _precision(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    if deployment.precision in pool.precisions:
        return None
    return Refusal(
        rule="precision",
        subject=_subject(pool, cluster),
        value=f"{pool.gpu_type} computes {', '.join(pool.precisions) or 'nothing known'}",
        remedy=f"the weights are {deployment.precision}: use a GPU type that has it, or another model version",
    )


def _engine(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    vendors = ENGINE_VENDORS.get(deployment.engine)
    if vendors is None or pool.gpu_vendor.lower() in vendors:
        return None
    return Refusal(
        rule="engine",
        subject=_subject(pool, cluster),
        value=f"{pool.gpu_type} by {pool.gpu_vendor}",
        remedy=f"{deployment.engine} runs on {', '.join(vendors)}: use such a pool, or another engine",
    )


def _memory(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    usable_bytes = int(deployment.gpus_per_replica * pool.gpu_memory_gib * GIB * WEIGHTS_MEMORY_SHARE)
    if deployment.weights_bytes <= usable_bytes:
        return None
    return Refusal(
        rule="gpu_memory",
        subject=_subject(pool, cluster),
        value=f"{deployment.gpus_per_replica} x {pool.gpu_memory_gib} GiB of {pool.gpu_type}",
        remedy=f"the weights take {deployment.weights_bytes / GIB:.1f} GiB: use more GPUs per replica or larger ones",
    )


def _failure_domain(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    kind = deployment.survivability
    if kind == "none" or cluster.domains(kind):
        return None
    return Refusal(
        rule="failure_domain_unknown",
        subject=_subject(pool, cluster),
        value=f"no {kind} is recorded for cluster {cluster.name}",
        remedy=f"record its {kind} as a failure domain, or lower survivability",
    )


def _cluster_open(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    if not cluster.closed:
        return None
    return Refusal(
        rule="cluster_closed",
        subject=_subject(pool, cluster),
        value=f"cluster {cluster.name}: {cluster.closed}",
        remedy="connect its agent and make the cluster schedulable, or add capacity elsewhere",
    )


def _pool_open(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    if not pool.closed:
        return None
    return Refusal(
        rule="pool_closed",
        subject=_subject(pool, cluster),
        value=pool.closed,
        remedy="open the pool again (make it schedulable, undrain it), or add capacity elsewhere",
    )


def _price_known(deployment: WantedDeployment, pool: Pool, cluster: Cluster) -> Refusal | None:
    if pool.instance_micro_usd_per_h is not None:
        return None
    return Refusal(
        rule="price_unknown",
        subject=_subject(pool, cluster),
        value="no price in force",
        remedy="give the pool a price (0 if it is free)",
    )
