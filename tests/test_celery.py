"""The Celery example: a prefork pool sends to a consumer, from children that were forked after the layer was used."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from tests.support.child import Child
from tests.support.loops import Run
from tests.support.processes import ROOT
from tests.support.waiting import block_until

STEPS = 20


@pytest.fixture(params=["local", "hosts"])
def config(request: pytest.FixtureRequest, hosts: list[str], prefix: str) -> dict[str, Any]:
    return {"prefix": prefix} if request.param == "local" else {"prefix": prefix, "hosts": hosts[:2]}


@pytest.fixture(params=["jobs", "tests.support.celery_parent"], ids=["fresh", "parent has used it"])
def worker(request: pytest.FixtureRequest, config: dict[str, Any], tmp_path: Path) -> Iterator[dict[str, str]]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'examples' / 'celery'}",
        "LAYER_CONFIG": json.dumps(config),
        "QUEUE": str(tmp_path / "queue"),
    }
    celery = [sys.executable, "-m", "celery", "-A", request.param, "worker", "--concurrency", "2", "--loglevel", "INFO"]
    log = tmp_path / "log"
    child = Child([*celery, "--without-gossip", "--without-mingle"], output=log, environment=environment)
    # Two who declare a queue at once damage each other's files: this broker is for examples.

    def is_ready() -> bool:
        text = log.read_text() if log.exists() else ""
        assert child.running, text
        return " ready." in text

    block_until(is_ready, "the worker is ready", 60)
    yield environment
    child.signal(signal.SIGKILL)  # its own way to end takes seven seconds
    child.wait(20)
    child.end_group()
    assert "Traceback" not in log.read_text()


def test_reports_of_two_children(worker: dict[str, str], config: dict[str, Any], run: Run, tmp_path: Path) -> None:
    layer = HybridChannelLayer(**config)
    queue_jobs = (
        f"import sys; from jobs import count\nfor job in ('first', 'second'): count.delay(sys.argv[1], job, {STEPS})"
    )

    async def main() -> dict[str, list[int]]:
        channel = await layer.new_channel()
        queueing = await asyncio.create_subprocess_exec(sys.executable, "-c", queue_jobs, channel, env=worker)
        assert await queueing.wait() == 0
        steps = defaultdict(list)
        for _ in range(2 * STEPS):
            report = await layer.receive(channel)
            steps[report["job"]].append(report["step"])
        await layer.flush()
        await layer.close()
        return steps

    assert run(main(), seconds=40) == {"first": [*range(STEPS)], "second": [*range(STEPS)]}
