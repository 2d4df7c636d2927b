"""What a layer asks of its store: each operation is one verb."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from tests.support.memory_store import MemoryChannelLayer, MemoryPubSubChannelLayer
from tests.support.probe import probe
from tests.support.waiting import turns, wait_until


@pytest.mark.parametrize("layer_class", [MemoryChannelLayer, MemoryPubSubChannelLayer])
async def test_each_operation_is_one_verb(layer_class: type[MemoryChannelLayer], prefix: str) -> None:
    layer = layer_class(prefix=prefix)
    publishes = layer_class is MemoryPubSubChannelLayer
    own = await layer.new_channel()
    await layer.group_add("g", own)
    (store,) = layer.stores

    async def verbs(operation: Any) -> list[str]:
        store.calls.clear()
        await operation
        return [verb for verb in store.calls if verb != "renew"]  # which the heartbeat calls, too

    assert await verbs(layer.send("jobs", {"n": 1})) == ["send"]
    assert await verbs(layer.send(own, {"n": 2})) == ["publish" if publishes else "send"]
    assert await verbs(layer.group_send("g", {"n": 3})) == ["group_send"]
    assert await verbs(layer.group_add("g", "jobs")) == ["group_add"]
    assert await verbs(layer.group_discard("g", "jobs")) == ["group_discard"]
    assert [(await layer.receive(own))["n"] for _ in range(2)] == [2, 3]
    await layer.close()


async def test_a_renewal_is_one_verb(prefix: str) -> None:
    """However many memberships the process has."""
    layer = MemoryChannelLayer(prefix=prefix)
    own = await layer.new_channel()
    for n in range(50):
        await layer.group_add(f"g{n}", own)
    (store,) = layer.stores
    for _ in range(3):
        before = len(store.calls)
        probe(layer).look_after_keys()
        await wait_until(lambda before=before: len(store.calls) > before, "the heartbeat has renewed")
        await turns(5)
        assert set(store.calls[before:]) == {"renew"}
        assert len(store.calls) - before <= 2  # it may have been at one just then
    await layer.close()


async def test_what_is_stored_is_what_came_before_the_first_failure(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A published message may fail alone: who sends the rest again must not leave it out."""
    layer = MemoryPubSubChannelLayer(prefix=prefix)
    own = await layer.new_channel()
    (store,) = layer.stores
    publish = store.publish

    async def fail_once(shard: Any, channel: str, payload: bytes, expiry: float | None = None) -> int:
        if b"lost" in payload:
            raise RemoteUnavailable("no answer")
        return await publish(shard, channel, payload, expiry)

    monkeypatch.setattr(store, "publish", fail_once)
    with pytest.raises(RemoteUnavailable) as caught:
        await layer.send_multiple(own, [{"n": n} for n in (0, 1, "lost", 3)])
    assert caught.value.stored == 2
    assert [(await layer.receive(own))["n"] for _ in range(3)] == [0, 1, 3]
    await layer.close()
