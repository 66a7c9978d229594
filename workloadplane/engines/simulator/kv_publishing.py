"""The simulated engine's KV events in vLLM's form, for those who ask for them at its start."""

import time
from collections.abc import Sequence

import msgspec
import zmq

from workloadplane.engines.simulator.kvcache import CacheEvent


class KvPublisher:
    """Publishes at an address of ZeroMQ. Token ids are left empty: nobody here has a tokenizer to read them with."""

    def __init__(self, address: str, *, block_tokens: int) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self._block_tokens = block_tokens
        self._sequence = 0

    def publish(self, events: Sequence[CacheEvent]) -> None:
        """One message for all of them, in order."""
        told = []
        for kind, block_hash in events:
            if kind == "stored":
                told.append(
                    {
                        "type": "BlockStored",
                        "block_hashes": [block_hash],
                        "parent_block_hash": None,
                        "token_ids": [],
                        "block_size": self._block_tokens,
                        "lora_id": None,
                        "medium": "GPU",
                        "lora_name": None,
                    }
                )
            else:
                told.append({"type": "BlockRemoved", "block_hashes": [block_hash], "medium": "GPU"})
        payload = msgspec.msgpack.encode([time.time(), told, 0])
        self._socket.send_multipart([b"", self._sequence.to_bytes(8), payload])
        self._sequence += 1
