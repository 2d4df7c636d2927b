"""What Sentinels are asked, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass

from redis.exceptions import ConnectionError

from hybrid_layer.remote.redis.server.replies import OddReply

QUESTION = ("SENTINEL", "MASTERS")


@dataclass(frozen=True, slots=True)
class Master:
    """What one Sentinel says of one service."""

    host: str
    port: int
    epoch: int
    is_down: bool
    other_sentinels: int


def masters(reply: object) -> dict[str, Master]:
    """The answer to `QUESTION`, by service. Raises `RedisError` for that of a server which is no Sentinel."""
    if not isinstance(reply, list):
        raise ConnectionError(f"it is no Sentinel: {reply}")
    found = {}
    for fields in reply:
        try:
            texts = [field.decode("utf-8", "replace") for field in fields]
            master = dict(zip(texts[::2], texts[1::2], strict=False))
            found[master["name"]] = Master(
                master["ip"],
                int(master["port"]),
                int(master.get("config-epoch", 0)),
                "down" in master["flags"],  # s_down: it says so; o_down: others too
                int(master.get("num-other-sentinels", 0)),
            )
        except (TypeError, AttributeError, KeyError, ValueError):
            raise OddReply("SENTINEL MASTERS", fields) from None
    return found
