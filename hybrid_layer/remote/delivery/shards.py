"""Which server a name lives on. There is one function for that, and everybody uses it.

Rendezvous hashing: each shard gets a score per name, the highest wins, so that a host appended to the list takes over
only its share of the names. A shard is known by its place in `hosts`, not by its address, since one server may have
another address on each machine; the order of `hosts` must therefore be the same everywhere.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from hybrid_layer.names import is_process_specific, process_of


@lru_cache(maxsize=16384)
def shard_for(name: str, shards: int) -> int:
    """The shard of a channel: of a process-specific one by its process, so that one reader serves all its channels."""
    if shards == 1:
        return 0
    key = process_of(name) if is_process_specific(name) else name
    return max(range(shards), key=lambda shard: _score(key, shard))


def _score(key: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}|{key}".encode(), digest_size=8).digest()
