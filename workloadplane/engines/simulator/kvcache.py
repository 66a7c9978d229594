"""The KV cache as counted blocks, with automatic prefix caching in the manner of vLLM.

A block holds ``block_tokens`` tokens. A full block is known by a hash that covers everything before it too,
so two sequences with a common beginning share blocks. A block that nobody uses stays findable until its room
is needed; the longest unused goes first, and of one sequence its tail before its head. Pure: callers hand in
hashes and counts.
"""

from collections import OrderedDict
from collections.abc import Sequence

CacheEvent = tuple[str, int]
"""``stored`` or ``removed``, and the block's hash."""


class KvCache:
    """``capacity_blocks`` blocks; each is private to one sequence, shared by hash, or idle but still findable."""

    def __init__(self, *, capacity_blocks: int) -> None:
        if capacity_blocks < 1:
            raise ValueError(f"capacity_blocks: {capacity_blocks} is less than 1; give room for one block")
        self.capacity_blocks = capacity_blocks
        self._private_blocks = 0
        self._users_by_hash: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self.events: list[CacheEvent] | None = None  # a list, for those who want to know what comes and goes

    @property
    def used_blocks(self) -> int:
        """Blocks that some sequence holds; idle ones are as good as free."""
        return self._private_blocks + len(self._users_by_hash)

    @property
    def usage(self) -> float:
        """Share of the blocks in use, in [0, 1]."""
        return self.used_blocks / self.capacity_blocks

    def matching_blocks(self, hashes: Sequence[int]) -> int:
        """How many blocks from the beginning of ``hashes`` are present."""
        for count, block_hash in enumerate(hashes):
            if block_hash not in self._users_by_hash and block_hash not in self._idle:
                return count
        return len(hashes)

    def can_take(self, shared: Sequence[int], private_blocks: int) -> bool:
        """Whether ``take`` of the same would find room."""
        woken = sum(1 for block_hash in shared if block_hash in self._idle)
        return self.used_blocks + woken + private_blocks <= self.capacity_blocks

    def take(self, shared: Sequence[int], private_blocks: int) -> None:
        """Use present blocks ``shared`` and ``private_blocks`` fresh ones. Ask ``can_take`` first."""
        for block_hash in shared:
            self._idle.pop(block_hash, None)
            self._users_by_hash[block_hash] = self._users_by_hash.get(block_hash, 0) + 1
        self._private_blocks += private_blocks
        while self.used_blocks + len(self._idle) > self.capacity_blocks:
            block_hash, _ = self._idle.popitem(last=False)
            if self.events is not None:
                self.events.append(("removed", block_hash))

    def publish(self, block_hash: int) -> None:
        """A private block is full: from now on others may find it. An equal block is merged with it."""
        self._private_blocks -= 1
        if self.events is not None and block_hash not in self._idle and block_hash not in self._users_by_hash:
            self.events.append(("stored", block_hash))
        self._idle.pop(block_hash, None)
        self._users_by_hash[block_hash] = self._users_by_hash.get(block_hash, 0) + 1

    def release(self, shared: Sequence[int], private_blocks: int) -> None:
        """Give back what a sequence held. Shared blocks without a user stay findable, their tail evicted first."""
        self._private_blocks -= private_blocks
        for block_hash in reversed(shared):
            users = self._users_by_hash[block_hash] - 1
            if users:
                self._users_by_hash[block_hash] = users
            else:
                del self._users_by_hash[block_hash]
                self._idle[block_hash] = None
