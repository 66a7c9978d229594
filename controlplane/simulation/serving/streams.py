"""A stream of random numbers for each cause: what one cause draws moves nothing of what another will draw.

So two policies meet the same requests, the same cold starts and the same failures, and differ by what they do
(common random numbers).
"""

from hashlib import blake2b

import numpy as np


class Streams:
    """``of(cause)`` begins the same stream each time that it is asked for."""

    def __init__(self, seed: int, within: str = "") -> None:
        """``seed``: 0 or more; ``within``: what tells causes of the same name apart."""
        self.seed = seed
        self._within = within

    def of(self, cause: str) -> np.random.Generator:
        """The stream of one cause, from its beginning."""
        name = int.from_bytes(blake2b((self._within + cause).encode(), digest_size=8).digest(), "big")
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, name])))
