"""Where a cluster's gateway is reached, as its agent says."""

from apps.fleet.models import Cluster


def cluster_gateway_set(*, cluster: Cluster, gateway_url: str) -> bool:
    """Store the address; whether it is another than before. Placement need not know, so no generation rises."""
    if cluster.gateway_url == gateway_url:
        return False
    cluster.gateway_url = gateway_url
    cluster.save(update_fields=["gateway_url"])
    return True
