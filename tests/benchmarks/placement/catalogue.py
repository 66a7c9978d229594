"""Facts of the size that they have in the world: GPUs, machines and their prices, regions, models.

Prices, USD per instance and hour. On demand: AWS p4d, p4de and p5 as in skypilot-org/skypilot-catalog (an old stored
version: p5 at 98.32), as are what regions add (eu-west-1 8 % on p4d, ap-northeast-1 25 % and eu-west-2 30 % on p5) and
what spot costs (15 to 46 % of on demand for p4d, p4de and p5 in the US, 42 % at Nebius); the others are the providers'
list prices, rounded. A reservation costs 56 % (p5 for a year: 55.04). On premises: what such machines cost by the hour
over their life, H100 at what Nebius asks.

GPUs: memory, memory bandwidth and dense 16-bit TFLOPS by their makers' data sheets. With these, what a replica does is
reckoned as a roof line (``tokens per step / time to read weights and cache``), so that types differ as they do: an H200
serves about 1.4 times what an H100 does, an H100 about twice an A100.
"""

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Gpu:
    """``nvlink``: its GPUs speak to each other faster than over PCIe. ``software``: share of the roof reached."""

    name: str
    vendor: str
    memory_gib: int
    gb_per_s: int
    tflops: int
    precisions: tuple[str, ...]
    nvlink: bool
    software: float = 0.6


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("L4", "nvidia", 24, 300, 121, ("bf16", "fp8"), False),
        Gpu("A10G", "nvidia", 24, 600, 70, ("bf16",), False),
        Gpu("L40S", "nvidia", 48, 864, 362, ("bf16", "fp8"), False),
        Gpu("A100-40GB", "nvidia", 40, 1555, 312, ("bf16",), True),
        Gpu("A100-80GB", "nvidia", 80, 2039, 312, ("bf16",), True),
        Gpu("H100", "nvidia", 80, 3350, 989, ("bf16", "fp8"), True),
        Gpu("H200", "nvidia", 141, 4800, 989, ("bf16", "fp8"), True),
        Gpu("MI300X", "amd", 192, 5300, 1307, ("bf16", "fp8"), True, 0.45),
    )
}


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance type. ``weight``: how common it is among a provider's pools."""

    name: str
    gpu: str
    gpus: int
    usd_per_h: float
    weight: int


MACHINES: dict[str, tuple[Machine, ...]] = {
    "aws": (
        Machine("g6.xlarge", "L4", 1, 0.805, 2),
        Machine("g6.12xlarge", "L4", 4, 4.602, 2),
        Machine("g5.12xlarge", "A10G", 4, 5.672, 3),
        Machine("g5.48xlarge", "A10G", 8, 16.288, 1),
        Machine("g6e.12xlarge", "L40S", 4, 10.493, 2),
        Machine("p4d.24xlarge", "A100-40GB", 8, 32.7726, 4),
        Machine("p4de.24xlarge", "A100-80GB", 8, 40.96575, 4),
        Machine("p5.48xlarge", "H100", 8, 98.32, 6),
        Machine("p5en.48xlarge", "H200", 8, 84.80, 3),
    ),
    "gcp": (
        Machine("g2-standard-48", "L4", 4, 4.00, 2),
        Machine("g2-standard-96", "L4", 8, 8.00, 1),
        Machine("a2-highgpu-2g", "A100-40GB", 2, 7.35, 3),
        Machine("a2-ultragpu-1g", "A100-80GB", 1, 5.07, 2),
        Machine("a2-ultragpu-8g", "A100-80GB", 8, 40.55, 4),
        Machine("a3-highgpu-8g", "H100", 8, 88.49, 6),
        Machine("a3-ultragpu-8g", "H200", 8, 84.81, 3),
    ),
    "azure": (
        Machine("NC24ads-A100-v4", "A100-80GB", 1, 3.673, 2),
        Machine("NC48ads-A100-v4", "A100-80GB", 2, 7.346, 3),
        Machine("NC96ads-A100-v4", "A100-80GB", 4, 14.692, 4),
        Machine("ND96isr-H100-v5", "H100", 8, 98.32, 6),
        Machine("ND96isr-MI300X-v5", "MI300X", 8, 48.00, 3),
        Machine("ND96isr-H200-v5", "H200", 8, 84.80, 2),
    ),
    "onprem": (
        Machine("hgx-h100", "H100", 8, 23.60, 5),
        Machine("l40s-4x", "L40S", 4, 5.20, 2),
    ),
}

RESERVED_PRICE_SHARE = 0.56
SPOT_PRICE_SHARE = (0.18, 0.50)


@dataclass(frozen=True, slots=True)
class Place:
    """A provider's region. ``price``: what machines cost there beside the cheapest region."""

    region: str
    provider: str
    jurisdiction: str
    latitude: float
    longitude: float
    zones: int
    price: float


#: In an order that gives the first few both continents, every provider and a neighbour within each jurisdiction.
PLACES = (
    Place("us-east-1", "aws", "us", 38.9, -77.5, 3, 1.0),
    Place("europe-west4", "gcp", "eu", 53.4, 6.8, 3, 1.06),
    Place("eastus2", "azure", "us", 36.7, -78.4, 3, 1.0),
    Place("eu-west-1", "aws", "eu", 53.3, -6.3, 3, 1.08),
    Place("us-central1", "gcp", "us", 41.3, -95.9, 3, 1.0),
    Place("germanywestcentral", "azure", "eu", 50.1, 8.7, 3, 1.2),
    Place("ap-northeast-1", "aws", "jp", 35.7, 139.7, 3, 1.25),
    Place("ber-dc1", "onprem", "eu", 52.5, 13.4, 1, 1.0),
    Place("us-west-2", "aws", "us", 45.8, -119.7, 3, 1.0),
    Place("asia-southeast1", "gcp", "sg", 1.35, 103.8, 3, 1.2),
    Place("uksouth", "azure", "uk", 50.9, -0.8, 3, 1.18),
    Place("eu-central-1", "aws", "eu", 50.1, 8.7, 3, 1.25),
    Place("europe-west3", "gcp", "eu", 50.1, 8.7, 2, 1.18),
    Place("japaneast", "azure", "jp", 35.7, 139.8, 2, 1.25),
    Place("iad-dc1", "onprem", "us", 39.0, -77.4, 1, 1.0),
    Place("ap-south-1", "aws", "in", 19.1, 72.9, 2, 1.1),
    Place("europe-west2", "gcp", "uk", 51.5, -0.1, 2, 1.14),
    Place("westus3", "azure", "us", 33.4, -112.1, 3, 1.0),
    Place("eu-north-1", "aws", "eu", 59.3, 18.1, 2, 1.07),
    Place("us-east4", "gcp", "us", 39.0, -77.5, 3, 1.0),
    Place("francecentral", "azure", "eu", 46.3, 2.4, 2, 1.2),
    Place("ap-southeast-2", "aws", "au", -33.9, 151.2, 2, 1.3),
    Place("northamerica-northeast2", "gcp", "ca", 43.7, -79.4, 2, 1.1),
    Place("australiaeast", "azure", "au", -33.9, 151.2, 2, 1.25),
    Place("ca-central-1", "aws", "ca", 45.5, -73.6, 2, 1.15),
    Place("asia-northeast1", "gcp", "jp", 35.7, 139.7, 2, 1.28),
    Place("us-east-2", "aws", "us", 40.0, -83.0, 3, 1.0),
    Place("swedencentral", "azure", "eu", 60.7, 17.1, 2, 1.1),
    Place("eu-west-2", "aws", "uk", 51.5, -0.1, 2, 1.3),
    Place("centralindia", "azure", "in", 18.6, 73.9, 2, 1.1),
)

#: Clients come from these as well, where nobody here has GPUs.
FAR_ORIGINS = (
    Place("sa-east-1", "aws", "br", -23.5, -46.6, 0, 1.0),
    Place("me-central-1", "aws", "ae", 24.5, 54.4, 0, 1.0),
    Place("af-south-1", "aws", "za", -33.9, 18.4, 0, 1.0),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its card gives it: parameters in all and per token (10^9), bytes of cache a token at 16 bits."""

    name: str
    parameters_b: float
    active_b: float
    cache_bytes_per_token: int
    gpus_at_16_bits: tuple[int, ...]
    gpus_at_8_bits: tuple[int, ...]
    weight: int


MODELS = (
    Model("llama-3b", 3.2, 3.2, 114_688, (1,), (1,), 3),
    Model("llama-8b", 8.0, 8.0, 131_072, (1,), (1,), 6),
    Model("qwen-14b", 14.8, 14.8, 196_608, (1, 2), (1,), 4),
    Model("qwen-32b", 32.8, 32.8, 262_144, (2, 4), (1, 2), 4),
    Model("mixtral-8x7b", 46.7, 12.9, 131_072, (2, 4), (1, 2), 2),
    Model("llama-70b", 70.6, 70.6, 327_680, (4, 8), (2, 4), 4),
    Model("mixtral-8x22b", 141.0, 39.0, 229_376, (8,), (4, 8), 1),
    Model("qwen-235b", 235.0, 22.0, 192_512, (8,), (4, 8), 1),
)
