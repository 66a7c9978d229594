"""What does it cost?

Integer micro-dollars throughout (1 USD = 1,000,000). Pure: prices and counts in, money out. Imports neither Django nor
``apps``, and nothing of the other rooms, so that placement, the API and the books all reckon alike.
"""

from controlplane.costing.money import usd_exact, usd_printed
from controlplane.costing.pools import PoolCost, PoolTariff, pool_cost, pool_costs, replica_micro_usd_per_h

__all__ = [
    "PoolCost",
    "PoolTariff",
    "pool_cost",
    "pool_costs",
    "replica_micro_usd_per_h",
    "usd_exact",
    "usd_printed",
]
