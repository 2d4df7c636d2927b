# SPDX-License-Identifier: BSD-3-Clause
"""Metrics for Prometheus: a collector, and a view. Needs the extra ``prometheus``.

They are read from shared memory and servers when they are scraped: a message costs nothing more. What is read is the
machine's, whichever of its processes is asked. So scrape one process per machine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from channels.layers import channel_layers
from django.http import HttpRequest, HttpResponse
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector as _Collector

import hybrid_layer
from hybrid_layer.base import BaseLayer
from hybrid_layer.commands.survey import shm_room
from hybrid_layer.commands.target import Target, of_layer
from hybrid_layer.exceptions import HybridLayerError, SegmentNotFound
from hybrid_layer.statistics import KEYS, warn

LAYER, HALF = "layer", "half"
MOST_CHANNELS = 256
OTHER, SPECIFIC = "other", "process-specific"
"""Labels of all channels beyond the most, and of all process-specific ones together."""

_DROPS = [key for key in KEYS if key not in ("sent", "received")]


class Collector(_Collector):
    """Collects from `layers`, by alias; by default from all of this package in ``CHANNEL_LAYERS``.

    ``prometheus_client.REGISTRY.register(Collector())``, unless the site uses multiprocess mode: see `metrics`.
    `timeout` is for servers, in seconds. One that does not answer is down.
    """

    def __init__(self, layers: Mapping[str, BaseLayer] | None = None, timeout: float = 2.0) -> None:
        self._layers = layers
        self._timeout = timeout

    def describe(self) -> Iterable[Metric]:
        """Nothing: a look at servers is not for the start of a process."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape, from any thread."""
        families = _Families()
        families.info.add_metric([hybrid_layer.__version__], 1)
        for alias, layer in self._all().items():
            target = of_layer(layer, self._timeout)
            if target.memory is not None:
                _collect_memory(families, alias, target)
            if target.servers is not None:
                _collect_servers(families, alias, target)
            if target.memory is None:
                _collect_counters(families, alias, layer, self._timeout)
        yield from families.all()

    def _all(self) -> Mapping[str, BaseLayer]:
        if self._layers is not None:
            return self._layers
        found = {alias: channel_layers[alias] for alias in channel_layers.configs}
        return {alias: layer for alias, layer in found.items() if isinstance(layer, BaseLayer)}


class _Families:
    """One scrape's metrics."""

    def __init__(self) -> None:
        self._every: list[Metric] = []
        both = (LAYER, HALF)
        self.info = self._gauge("build_info", "The release of hybrid_layer.", "version")
        self.sent = self._counter("messages_sent", "Messages stored.", *both)
        self.received = self._counter("messages_received", "Messages handed to consumers.", *both)
        self.dropped = self._counter("messages_dropped", "Messages dropped, by reason.", *both, "reason")
        per_channel = (*both, "channel")
        self.pending = self._gauge("channel_messages", "Unread messages.", *per_channel)
        self.capacity = self._gauge("channel_capacity", "The most unread messages.", *per_channel)
        self.waiting = self._gauge("channel_waiting", "Event loops that wait for messages.", *per_channel)
        self.age = self._gauge(
            "channel_oldest_message_age_seconds", "For how long the oldest message is unread.", *per_channel
        )
        self.waits = HistogramMetricFamily(
            "hybrid_layer_message_wait_seconds", "For how long messages were unread.", labels=both
        )
        self._every.append(self.waits)
        area = (*both, "area")
        self.used = self._gauge("memory_used_bytes", "Shared memory in use.", *area)
        self.reserved = self._gauge("memory_reserved_bytes", "Shared memory taken so far.", *area)
        self.limit = self._gauge("memory_limit_bytes", "The most shared memory.", *area)
        self.shm_size = self._gauge("shm_size_bytes", "The size of /dev/shm.")
        self.shm_free = self._gauge("shm_free_bytes", "Free bytes of /dev/shm.")
        self.processes = self._gauge("processes", "Processes that use the layer on this machine.", *both)
        self.groups = self._gauge("groups", "Groups with members on this machine.", *both)
        self.members = self._gauge("group_members", "Members of groups on this machine.", *both)
        self.reaped = self._counter("processes_reaped", "Dead processes cleaned up after.", *both)
        self.repairs = self._counter("segment_repairs", "Repairs of the segment.", *both)
        self.up = self._gauge("server_up", "Whether the server answers.", *both, "server")
        self.round_trip = self._gauge("server_round_trip_seconds", "A round trip to the server.", *both, "server")

    def all(self) -> list[Metric]:
        return [family for family in self._every if family.samples]

    def count(self, alias: str, half: str, counters: Mapping[str, int]) -> None:
        self.sent.add_metric([alias, half], counters["sent"])
        self.received.add_metric([alias, half], counters["received"])
        for reason in _DROPS:
            self.dropped.add_metric([alias, half, reason], counters[reason])

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"hybrid_layer_{name}", text, labels=labels)
        self._every.append(family)
        return family

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        family = CounterMetricFamily(f"hybrid_layer_{name}", text, labels=labels)
        self._every.append(family)
        return family


def _collect_memory(families: _Families, alias: str, target: Target) -> None:
    here = [alias, "local"]
    if (room := shm_room()) is not None and not families.shm_size.samples:
        families.shm_size.add_metric([], room[0])
        families.shm_free.add_metric([], room[1])
    try:
        with target.observer() as observer:
            families.count(alias, "local", counters := observer.counters())
            families.reaped.add_metric(here, counters["reaped"])
            families.repairs.add_metric(here, counters["repairs"])
            if target.servers is not None:
                families.count(alias, "remote", observer.remote_counters())
            for area, sizes in zip(("messages", "groups"), observer.areas(), strict=True):
                families.used.add_metric([*here, area], sizes.used)
                families.reserved.add_metric([*here, area], sizes.reserved)
                families.limit.add_metric([*here, area], sizes.limit)
            _add_waits(families.waits, here, observer.waits())
            _add_channels(families, here, observer.channels())
            families.processes.add_metric(here, sum(each.is_alive for each in observer.processes()))
            groups = observer.groups()
            families.groups.add_metric(here, len(groups))
            families.members.add_metric(here, sum(groups.values()))
    except SegmentNotFound:
        families.processes.add_metric(here, 0)  # nobody has used it yet
    except HybridLayerError as error:  # the rest is collected
        warn(("metrics", alias), f"There are no metrics of shared memory: {error}")


def _add_waits(family: HistogramMetricFamily, labels: list[str], waits: Any) -> None:
    from hybrid_layer.ipc.observer import WAIT_BOUNDS

    total, buckets = 0, []
    for bound, count in zip((*map(str, WAIT_BOUNDS), "+Inf"), waits.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(labels, buckets, waits.total)


def _add_channels(families: _Families, here: list[str], channels: Iterable[Any]) -> None:
    """At most 256 normal channels by name: those that the segment counts by name, and then the fullest."""
    inboxes: list[Any] = []
    normal: list[Any] = []
    for each in channels:
        (inboxes if "!" in each.name else normal).append(each)
    normal.sort(key=lambda each: (each.capacity is None, -each.pending, each.name))
    named = {each.name: [each] for each in normal[:MOST_CHANNELS]}
    for name, rest in ((OTHER, normal[MOST_CHANNELS:]), (SPECIFIC, inboxes)):
        if rest:
            named[name] = [*named.get(name, []), *rest]
    for name, together in named.items():
        labels = [*here, name]
        families.pending.add_metric(labels, sum(each.pending for each in together))
        families.waiting.add_metric(labels, sum(each.waiting for each in together))
        families.age.add_metric(labels, max(each.oldest_age for each in together))
        if len(together) == 1 and together[0].capacity is not None:
            families.capacity.add_metric(labels, together[0].capacity)


def _collect_servers(families: _Families, alias: str, target: Target) -> None:
    from hybrid_layer.commands.servers import look

    assert target.servers is not None
    for state in _in_a_thread(look(target.servers, target.prefix, target.timeout, count_keys=False)):
        labels = [alias, "remote", state.label]
        families.up.add_metric(labels, state.is_up)
        if state.round_trip is not None:
            families.round_trip.add_metric(labels, state.round_trip)


def _collect_counters(families: _Families, alias: str, layer: BaseLayer, timeout: float) -> None:
    """Of a layer without shared memory, where a hybrid keeps them."""

    async def ask() -> dict[str, int]:
        try:
            async with asyncio.timeout(timeout):
                return await layer.statistics()
        finally:
            await layer.close()  # what belongs to this thread's loop

    try:
        families.count(alias, "remote", _in_a_thread(ask()))
    except (HybridLayerError, TimeoutError) as error:
        warn(("metrics", alias), f"There are no counters of layer {alias!r}: {str(error) or 'no answer in time'}")


def _in_a_thread(work: Any) -> Any:
    """The result of a coroutine. The calling thread may have a running event loop of its own."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


class _Passing(_Collector):
    """The metrics of another registry or collector."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._source.collect()


def metrics(request: HttpRequest) -> HttpResponse:
    """A view: the site's own metrics, and those of its layers.

    In multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``), where other collectors have no place, the site's come from all
    its processes. Do not register `Collector` as well. Let only Prometheus reach this view.
    """
    registry = CollectorRegistry(auto_describe=False)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Passing(REGISTRY))
    registry.register(Collector())
    encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encoder(registry), content_type=content_type)
