"""The example world as data: three regions on three providers, with reserved, on-demand and spot pools.

Hazard and obtainability of spot capacity are round figures; what a GiB costs that leaves a region is each cloud's list
price of traffic to the internet, first tier.

Prices in USD per instance and hour. Those of AWS are list and spot prices of SkyPilot's public catalogue (p4d in
eu-west-1, p5 in eu-west-2, g6 in eu-west-1); those of Google Cloud and Azure are their list prices, rounded. They make
the example realistic and bind nobody. Reserved ones are about two fifths below on demand, as a year's commitment is.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExamplePool:
    """One pool: its machine, how it is procured, and what it costs."""

    name: str
    instance_type: str
    procurement: str
    capacity_instances: int
    price_usd_per_h: str
    hazard_per_h: float = 0.0
    obtainability: float = 1.0


@dataclass(frozen=True)
class ExampleCluster:
    """One cluster, in its provider's region."""

    name: str
    provider: str
    region: str
    jurisdiction: str
    latitude: float
    longitude: float
    zone: str
    pools: tuple[ExamplePool, ...]


#: name, vendor, GiB of memory, precisions that it computes in
GPU_TYPES = (
    ("H200", "nvidia", 141, ("fp32", "bf16", "fp16", "fp8", "int8", "int4")),
    ("H100", "nvidia", 80, ("fp32", "bf16", "fp16", "fp8", "int8", "int4")),
    ("A100", "nvidia", 40, ("fp32", "bf16", "fp16", "int8", "int4")),
    ("A100-80GB", "nvidia", 80, ("fp32", "bf16", "fp16", "int8", "int4")),
    ("L4", "nvidia", 24, ("fp32", "bf16", "fp16", "fp8", "int8", "int4")),
    ("T4", "nvidia", 16, ("fp32", "fp16", "int8", "int4")),
)

#: provider, name, GPU type, GPUs
INSTANCE_TYPES = (
    ("aws", "p5.48xlarge", "H100", 8),
    ("aws", "p4d.24xlarge", "A100", 8),
    ("aws", "g6.xlarge", "L4", 1),
    ("gcp", "a3-highgpu-8g", "H100", 8),
    ("gcp", "a2-highgpu-8g", "A100", 8),
    ("gcp", "g2-standard-4", "L4", 1),
    ("azure", "nd96isr-h100-v5", "H100", 8),
    ("azure", "nc96ads-a100-v4", "A100-80GB", 4),
    ("azure", "nc24ads-a100-v4", "A100-80GB", 1),
)

CLUSTERS = (
    ExampleCluster(
        name="eu-west",
        provider="aws",
        region="eu-west-1",
        jurisdiction="eu",
        latitude=53.35,
        longitude=-6.26,
        zone="euw1-az2",
        pools=(
            ExamplePool("reserved-a100", "p4d.24xlarge", "reserved", 1, "21.24"),
            ExamplePool("on-demand-l4", "g6.xlarge", "on_demand", 16, "0.898"),
            ExamplePool(
                "spot-h100", "p5.48xlarge", "spot", 2, "43.0145", hazard_per_h=0.05, obtainability=0.8
            ),
        ),
    ),
    ExampleCluster(
        name="us-east",
        provider="gcp",
        region="us-east4",
        jurisdiction="us",
        latitude=39.04,
        longitude=-77.49,
        zone="us-east4-c",
        pools=(
            ExamplePool("reserved-a100", "a2-highgpu-8g", "reserved", 1, "18.52"),
            ExamplePool("on-demand-l4", "g2-standard-4", "on_demand", 16, "0.796"),
            ExamplePool(
                "spot-h100", "a3-highgpu-8g", "spot", 2, "35.40", hazard_per_h=0.08, obtainability=0.7
            ),
        ),
    ),
    ExampleCluster(
        name="ap-northeast",
        provider="azure",
        region="japaneast",
        jurisdiction="jp",
        latitude=35.68,
        longitude=139.77,
        zone="japaneast-1",
        pools=(
            ExamplePool("reserved-a100", "nc96ads-a100-v4", "reserved", 2, "12.30"),
            ExamplePool("on-demand-a100", "nc24ads-a100-v4", "on_demand", 8, "5.12"),
            ExamplePool(
                "spot-h100", "nd96isr-h100-v5", "spot", 2, "49.16", hazard_per_h=0.06, obtainability=0.75
            ),
        ),
    ),
)

#: round-trip times between the regions, ms, as clouds publish them
LATENCIES_MS = (
    ("eu-west-1", "us-east4", 75.0),
    ("eu-west-1", "japaneast", 215.0),
    ("us-east4", "japaneast", 160.0),
)

#: what a GiB costs that leaves a region for another one, USD
EGRESS_USD_PER_GIB = {"eu-west-1": "0.09", "us-east4": "0.12", "japaneast": "0.12"}

#: What a replica of the example model serves on each GPU, and how long it takes to start. Round figures, in the ratio
#: of the GPUs' memory bandwidths; the simulator holds its own.
REQUESTS_PER_S = {"H200": 48.0, "H100": 33.0, "A100-80GB": 20.0, "A100": 16.0, "L4": 3.0, "T4": 3.0}
TOKENS_PER_REQUEST = 100.0
COLD_START_S = {"gpu_procurement": 60.0, "image_pull": 20.0, "weight_load": 2.0, "engine_start": 3.0}
