"""Writing the fleet: shared facts, clusters, pools, prices, reservations."""

from apps.fleet.services.cluster_change import cluster_delete, cluster_patch
from apps.fleet.services.cluster_create import cluster_create
from apps.fleet.services.cluster_retire import cluster_retire, clusters_retired_settle
from apps.fleet.services.facts_between import latency_set, network_price_set
from apps.fleet.services.facts_create import (
    failure_domain_create,
    gpu_type_create,
    instance_type_create,
    provider_create,
    region_create,
)
from apps.fleet.services.facts_delete import fact_delete
from apps.fleet.services.pool_change import pool_delete, pool_patch
from apps.fleet.services.pool_create import pool_create
from apps.fleet.services.pools_learned import pools_learned_store
from apps.fleet.services.pools_touch import pools_touch
from apps.fleet.services.reservation import reservation_create, reservation_delete, reservation_patch
from apps.fleet.services.reservation_advise import Advice, reservation_advise

__all__ = [
    "Advice",
    "cluster_create",
    "cluster_delete",
    "cluster_patch",
    "cluster_retire",
    "clusters_retired_settle",
    "fact_delete",
    "failure_domain_create",
    "gpu_type_create",
    "instance_type_create",
    "latency_set",
    "network_price_set",
    "pool_create",
    "pool_delete",
    "pool_patch",
    "pools_learned_store",
    "pools_touch",
    "provider_create",
    "region_create",
    "reservation_advise",
    "reservation_create",
    "reservation_delete",
    "reservation_patch",
]
