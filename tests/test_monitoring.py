"""examples/monitoring: Prometheus accepts the files, scrapes the site, and each expression finds series."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from asgiref.sync import async_to_sync

from hybrid_layer import HybridChannelLayer
from tests.support.child import Child
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until

EXAMPLES = Path(__file__).parents[1] / "examples"
MONITORING = EXAMPLES / "monitoring"
SECONDS = 60


@pytest.fixture(autouse=True)
def _needs_prometheus() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no Prometheus on this machine")


def rules() -> dict[str, str]:
    """Expressions by alert."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels() -> dict[str, str]:
    """Expressions by panel and letter, with Grafana's variables replaced."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$instance", ".*")
        .replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


def test_the_files_are_accepted() -> None:
    for kind, name in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        done = subprocess.run(
            ["promtool", "check", kind, MONITORING / name], capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr


def test_the_dashboard_has_no_panel_twice() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) == 16
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"])


def test_alerts_name_a_remedy_that_is_described() -> None:
    text = (EXAMPLES.parent / "docs" / "operating.rst").read_text()
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        for id in re.findall(r"D\d\d\d", rule["annotations"]["remedy"]):
            assert f"``{id}``" in text


@pytest.fixture
def site(prefix: str, hosts: list[str], tmp_path: Path) -> Iterator[str]:
    """The address of the monitored chat."""
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(MONITORING), str(EXAMPLES.parent)]),
        "DJANGO_SETTINGS_MODULE": "monitored",
        "HYBRID_LAYER_PREFIX": prefix,
        "HYBRID_LAYER_HOSTS": hosts[0],
    }
    served = [sys.executable, "-m", "uvicorn", "chat.asgi:application", "--port", str(port), "--lifespan", "off"]
    command = ["env", "--chdir", str(EXAMPLES / "chat"), *served]
    child = Child(command, output=tmp_path / "site", environment=environment)
    try:
        block_until(lambda: answers(f"http://{HOST}:{port}/metrics"), "the site answers", SECONDS)
        yield f"{HOST}:{port}"
    finally:
        child.signal(signal.SIGKILL)
        child.wait(SECONDS)
        child.end_group()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return int(response.status) == 200
    except OSError:
        return False


@pytest.fixture
def prometheus(site: str, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes the site every half second."""
    shutil.copy(MONITORING / "alerts.yaml", tmp_path)
    text = (MONITORING / "prometheus.yaml").read_text()
    text = text.replace("127.0.0.1:8000", site).replace("15s", "500ms")
    (tmp_path / "prometheus.yaml").write_text(text)
    address = f"{HOST}:{free_port()}"
    child = Child(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
        ],
        output=tmp_path / "prometheus",
        environment=dict(os.environ),
    )
    try:
        block_until(lambda: answers(f"http://{address}/-/ready"), "Prometheus is ready", SECONDS)
        yield address
    finally:
        child.signal(signal.SIGKILL)
        child.wait(SECONDS)
        child.end_group()


def ask(prometheus: str, expression: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://{prometheus}/api/v1/query?{query}", timeout=10) as response:
        found: list[Any] = json.load(response)["data"]["result"]
    return found


@pytest.mark.thorough
def test_each_expression_finds_series(prometheus: str, prefix: str) -> None:
    layer = HybridChannelLayer(prefix=prefix, channel_capacity={"jobs": 20}, expiry=60)
    async_to_sync(layer.send)("jobs", {"type": "job.run"})
    # Two scrapes with that message, so that there are rates.
    block_until(lambda: ask(prometheus, "count_over_time(hybrid_layer_channel_messages[1m]) > 3"), "scrapes", SECONDS)
    expressions = {name: re.sub(r" (>|<|==) -?[\d.]+$", "", expression) for name, expression in rules().items()}
    assert all(expressions[name] != expression for name, expression in rules().items()), "it has a threshold"
    missing = [name for name, expression in (expressions | panels()).items() if not ask(prometheus, expression)]
    assert missing == []
    assert ask(prometheus, "ALERTS") == [], "all is well"
