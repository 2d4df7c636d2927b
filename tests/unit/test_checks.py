"""The system checks of the Django app: each complaint once, and none where all is well."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.test import override_settings

from hybrid_layer import checks
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc.objects import segment_name
from tests.docs import texts

HYBRID, IPC = "hybrid_layer.HybridChannelLayer", "hybrid_layer.ipc.IPCChannelLayer"
REDIS, PUBSUB = "hybrid_layer.remote.RedisChannelLayer", "hybrid_layer.remote.RedisPubSubChannelLayer"
NOWHERE = "redis://10.255.255.1:6379"
"""No check connects to it: that would take until a timeout."""


def entry(backend: str = HYBRID, **config: Any) -> dict[str, Any]:
    return {"BACKEND": backend, "CONFIG": config}


def ids(layers: dict[str, Any], deploy: bool = False) -> list[str]:
    with override_settings(CHANNEL_LAYERS=layers):
        found = (checks.check_deployment if deploy else checks.check_layers)(None)
    for each in found:
        assert each.msg
    return [each.id.removeprefix("hybrid_layer.") for each in found]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({}, []),
        ({"default": entry()}, []),
        ({"default": entry(hosts=[NOWHERE], routes={"video.*": "remote"}, channel_capacity={"jobs": 5})}, []),
        ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, []),
        ({"default": {"BACKEND": "some.where.Else"}}, []),
        ({"default": entry(capacity=0)}, ["E001"]),
        ({"default": {"BACKEND": "hybrid_layer.HybridLayer"}}, ["E001"]),
        ({"default": entry(), "other": entry(IPC, message_memory=1 << 20)}, ["E003"]),
        ({"default": entry(), "other": entry(IPC, prefix="other", message_memory=1 << 20)}, []),
        ({"default": entry(REDIS), "other": entry(PUBSUB)}, ["E003"]),
        ({"default": entry(REDIS), "other": entry(REDIS, hosts=[NOWHERE])}, []),
        ({"default": entry(hosts=["redis://a"]), "other": entry(hosts=["redis://b"])}, ["E003"]),
        ({"default": entry(), "other": entry(serializer_format="json")}, ["E003"]),
        ({"default": entry() | {"TEST_CONFIG": {}}}, ["W001"]),
        ({"default": entry(channel_capacity={"*": 5, "jobs": 10})}, ["W002"]),
        ({"default": entry(channel_capacity={"jobs.*": 5, "jobs.video.*": 10, "jobs": 1})}, ["W002"]),
        ({"default": entry(channel_capacity={re.compile("jobs"): 5, "jobs.a": 1})}, ["W002"]),
        ({"default": entry(channel_capacity={"jobs video": 5})}, ["W002"]),
        ({"default": entry(channel_capacity={"*.a": 1, "b.*": 2, "b.*.a": 3, "[ab]": 4})}, ["W002"]),
        ({"default": entry(channel_capacity={"http.request": 1, "http.response!*": 2, "httpd": 3})}, ["W003", "W003"]),
        ({"default": entry(channel_capacity={re.compile(r"^websocket.send\!.+"): 20})}, ["W003"]),
        ({"default": entry(hosts=[NOWHERE], routes={"*": "remote", "jobs": "local"})}, ["W002"]),
    ],
)
def test_of_any_site(layers: dict[str, Any], expected: list[str]) -> None:
    assert ids(layers) == expected


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, ["W010"]),
        ({"default": entry(REDIS)}, ["W011"]),
        ({"default": entry()}, []),
        ({"default": entry(prefix="mine", message_memory=1 << 36)}, ["W012"]),
        ({"default": entry(prefix="mine", hosts=[NOWHERE])}, ["W014"]),
        ({"default": entry(prefix="mine", hosts=["rediss://10.255.255.1", "redis://localhost", "redis://[::1]"])}, []),
        ({"default": entry(prefix="mine", hosts=[NOWHERE], symmetric_encryption_keys=["key"])}, []),
        ({"default": entry(prefix="mine", hosts=["redis://sentinel"], services=["a"])}, ["W014"]),
        ({"default": entry(prefix="mine", hosts=["postgresql://10.255.255.1/name"])}, ["W014"]),
        ({"default": entry(prefix="mine", hosts=["postgresql://10.255.255.1/name?sslmode=verify-full"])}, []),
        ({"default": entry(prefix="mine", hosts=["postgresql:///name", {"host": "/run", "dbname": "name"}])}, []),
        ({"default": entry(prefix="mine", hosts=[{"host": "localhost,db", "dbname": "name"}])}, ["W014"]),
    ],
)
def test_of_a_deployment(layers: dict[str, Any], expected: list[str]) -> None:
    large = os.statvfs_result((4096, 4096, 1 << 20, 0, 0, 0, 0, 0, 0, 255))
    with mock.patch("os.statvfs", return_value=large), mock.patch("os.listdir", return_value=[]):
        assert ids(layers, deploy=True) == expected


def test_a_password_is_not_shown() -> None:
    with override_settings(CHANNEL_LAYERS={"default": entry(REDIS, hosts=["redis://:secret@10.255.255.1"])}):
        found = checks.check_deployment(None)
    assert found
    assert "secret" not in " ".join(str(each) for each in found)


def test_a_segment_of_another_user(prefix: str) -> None:
    names = [segment_name(prefix, os.geteuid()), segment_name(prefix, 54321), segment_name(f"{prefix}.", 54322)]
    with mock.patch("os.listdir", return_value=names):
        assert ids({"default": entry(prefix=prefix)}, deploy=True) == ["W013"]


def test_where_the_local_half_is_missing() -> None:
    with mock.patch("hybrid_layer.checks.configured.check_local_half", side_effect=ConfigurationError("Not built.")):
        assert ids({"default": entry(), "other": entry(REDIS)}) == ["E002"]


def test_the_app_registers_them() -> None:
    before = registry.registered_checks.copy(), registry.deployment_checks.copy()
    try:
        with override_settings(INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS={"default": entry(REDIS, capacity=0)}):
            assert [each.id for each in run_checks(tags=["channel_layers"])] == ["hybrid_layer.E001"]
    finally:
        registry.registered_checks, registry.deployment_checks = before


def test_a_check_leaves_nothing_behind(tmp_path: Path, prefix: str) -> None:
    """Neither a segment nor a connection, in a process that does nothing else."""
    program = f"""
import os, socket
from django.conf import settings
settings.configure(INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS={{
    "default": {{"BACKEND": {HYBRID!r}, "CONFIG": {{"prefix": {prefix!r}, "hosts": ["redis://10.255.255.1"]}}}}
}})
import django
django.setup()
before = sorted(os.listdir("/proc/self/fd"))
from django.core.management import call_command
call_command("check", "--tag", "channel_layers", "--deploy")
assert not [name for name in os.listdir("/dev/shm") if {segment_name(prefix, os.geteuid())!r} in name]
assert sorted(os.listdir("/proc/self/fd")) == before
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "W014" in done.stderr


def test_each_is_described() -> None:
    sources = "".join(path.read_text() for path in Path(checks.__file__).parent.glob("*.py"))
    raised = set(re.findall(r'"(?:hybrid_layer\.)?([EW]\d\d\d)"', sources))
    (described,) = texts.first_cells(texts.section("docs/operating.rst", "System checks"))
    assert sorted(described) == sorted(f"hybrid_layer.{each}" for each in raised)
