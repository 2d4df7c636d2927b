"""Metrics, read with Prometheus's own parser and linter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hybrid_layer import HybridChannelLayer, __version__
from hybrid_layer.contrib.prometheus import MOST_CHANNELS, Collector, metrics
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import RedisChannelLayer
from tests.support.loops import Run
from tests.support.servers import HOST, free_port

NAMES = {
    *("messages_sent", "messages_received", "messages_dropped", "message_wait_seconds", "build_info"),
    *("channel_messages", "channel_capacity", "channel_waiting", "channel_oldest_message_age_seconds"),
    *("memory_used_bytes", "memory_reserved_bytes", "memory_limit_bytes", "shm_size_bytes", "shm_free_bytes"),
    *("processes", "groups", "group_members", "processes_reaped", "segment_repairs"),
    *("server_up", "server_round_trip_seconds"),
}


def scrape(**layers: Any) -> str:
    registry = CollectorRegistry()
    registry.register(Collector(layers, timeout=1))
    return generate_latest(registry).decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = list(text_string_to_metric_families(text))
    found = [(each.name, frozenset(each.labels.items())) for family in families for each in family.samples]
    assert len(found) == len(set(found)), "a series is there twice"
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((f"hybrid_layer_{name}", frozenset(labels.items())))


@pytest.fixture
def layer(prefix: str) -> IPCChannelLayer:
    return IPCChannelLayer(prefix=prefix, message_memory=1 << 20, group_memory=1 << 20, channel_capacity={"jobs": 2})


def test_shared_memory(layer: IPCChannelLayer, run: Run) -> None:
    async def work() -> None:
        own = await layer.new_channel()
        await layer.group_add("secret-room", own)
        await layer.group_send("secret-room", {})
        await layer.send("jobs", {})
        await layer.send("done", {})
        await layer.receive("done")
        await layer.send("jobs", {})
        with pytest.raises(layer.ChannelFull):
            await layer.send("jobs", {})

    run(work())
    text = scrape(default=layer)
    here = {"layer": "default", "half": "local"}
    assert value(text, "messages_sent_total", **here) == 4
    assert value(text, "messages_received_total", **here) == 1
    assert value(text, "messages_dropped_total", **here, reason="full") == 1
    assert value(text, "channel_messages", **here, channel="jobs") == 2
    assert value(text, "channel_capacity", **here, channel="jobs") == 2
    assert value(text, "channel_messages", **here, channel="process-specific") == 1
    assert value(text, "message_wait_seconds_count", **here) == 1
    assert value(text, "message_wait_seconds_bucket", **here, le="+Inf") == 1
    assert value(text, "memory_limit_bytes", **here, area="messages") == 1 << 20
    assert value(text, "processes", **here) == 1
    assert value(text, "group_members", **here) == 1
    assert value(text, "build_info", version=__version__) == 1
    assert "secret-room" not in text
    assert str(os.getpid()) not in text
    assert "specific." not in text


def test_names_and_lint(prefix: str, hosts: list[str], run: Run) -> None:
    layer = HybridChannelLayer(prefix=prefix, hosts=hosts[:1])
    run(layer.send("jobs", {}))
    text = scrape(default=layer)
    run(layer.close())
    assert {family.name.removeprefix("hybrid_layer_") for family in text_string_to_metric_families(text)} == NAMES
    assert value(text, "server_up", layer="default", half="remote", server=hosts[0].partition("//")[2]) == 1
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool on this machine to lint them")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_many_channels_are_few_series(layer: IPCChannelLayer, run: Run) -> None:
    async def send() -> None:
        for number in range(MOST_CHANNELS + 20):
            await layer.send(f"channel.{number}", {})
        await layer.send("other", {})
        await layer.send("other", {})

    run(send())
    text = scrape(default=layer)
    found = {labels: number for (name, labels), number in samples(text).items() if name.endswith("channel_messages")}
    assert len(found) <= MOST_CHANNELS + 1
    assert sum(found.values()) == MOST_CHANNELS + 22
    assert value(text, "channel_messages", layer="default", half="local", channel="other") >= 20


def test_before_the_first_message(layer: IPCChannelLayer) -> None:
    text = scrape(default=layer)
    assert value(text, "processes", layer="default", half="local") == 0
    assert value(text, "messages_sent_total", layer="default", half="local") is None


async def test_a_server_that_is_down(prefix: str) -> None:
    """In a running event loop, too."""
    down = f"{HOST}:{free_port()}"
    layer = RedisChannelLayer(prefix=prefix, hosts=[f"redis://user:secret@{down}"])
    text = scrape(default=layer)
    assert value(text, "server_up", layer="default", half="remote", server=down) == 0
    assert "server_round_trip" not in text
    assert "secret" not in text


PROGRAM = """
from django.conf import settings
from hybrid_layer.testing import layers_for_tests
settings.configure(ALLOWED_HOSTS=["*"], CHANNEL_LAYERS=layers_for_tests({
    "default": {"BACKEND": "hybrid_layer.ipc.IPCChannelLayer", "CONFIG": {"message_memory": 1 << 20}},
    "other": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
}))
import django
django.setup()
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.test import RequestFactory
from prometheus_client import Counter
from hybrid_layer.contrib.prometheus import metrics
Counter("own", "of the site").inc(3)
async_to_sync(get_channel_layer().send)("jobs", {})
response = metrics(RequestFactory().get("/", headers={"Accept": ACCEPT}))
assert response.status_code == 200
print(response.headers["Content-Type"])
print(response.content.decode())
"""


@pytest.mark.parametrize("is_multiprocess", [False, True])
def test_the_view(tmp_path: Path, is_multiprocess: bool) -> None:
    """Real multiprocess mode is a matter of the environment, so it takes a process of its own."""
    accept = "application/openmetrics-text; version=1.0.0" if is_multiprocess else ""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HYBRID_LAYER")}
    if is_multiprocess:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    program = PROGRAM.replace("ACCEPT", repr(accept))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    kind, _, text = done.stdout.partition("\n")
    assert kind.startswith("application/openmetrics-text" if is_multiprocess else "text/plain")
    assert "own_total 3.0" in text
    assert 'hybrid_layer_messages_sent_total{half="local",layer="default"} 1.0' in text
    assert text.count("# EOF") == is_multiprocess


def test_the_view_without_layers() -> None:
    with override_settings(CHANNEL_LAYERS={}):
        assert b"hybrid_layer_build_info" in metrics(RequestFactory().get("/")).content
