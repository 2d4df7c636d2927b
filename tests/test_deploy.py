"""The files of examples/deploy: their own tools accept them, they say the same, and what they run works."""

from __future__ import annotations

import configparser
import inspect
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid_layer import HybridChannelLayer
from tests.support.child import Child
from tests.support.loops import Run
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until

EXAMPLES = Path(__file__).parents[1] / "examples"
DEPLOY = EXAMPLES / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
COMPOSE = DEPLOY / "compose.yaml"
MANIFESTS = sorted((DEPLOY / "kubernetes").iterdir())
SECONDS = 60


def unit(name: str) -> dict[str, str]:
    """The section [Service] of a unit."""
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return dict(parser["Service"])


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def manifest(kind: str, name: str) -> dict[str, Any]:
    documents = [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]
    (found,) = [each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return dict(found)


def pod() -> dict[str, Any]:
    return dict(manifest("Deployment", "chat")["spec"]["template"]["spec"])


def containers() -> dict[str, Any]:
    return {container["name"]: container for container in pod()["containers"]}


# Their own tools


def check(*command: str | Path) -> str:
    """What the tool says of a file that it does not accept."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def check_units(folder: Path, change: str = "") -> str:
    """With a program in the place of the one that they name, which is not here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    program = folder / "python"
    program.touch(mode=0o755)
    for path in UNITS:
        text = path.read_text().replace("/srv/chat/.venv/bin/python", str(program))
        (folder / path.name).write_text(text.replace("[Service]\n", f"[Service]\n{change}"))
    command = ["systemd-analyze", "verify", *(folder / path.name for path in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    # It warns with exit code 0, and of the machine's own units, too.
    complaints = [line for line in done.stderr.splitlines() if "chat-" in line]
    return "\n".join(complaints) or ("" if done.returncode == 0 else done.stderr)


def check_compose(path: Path) -> str:
    return check(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def check_manifest(path: Path) -> str:
    return check(Path(sys.executable).with_name("kubernetes-validate"), "--strict", path)


def test_units_are_accepted(tmp_path: Path) -> None:
    assert check_units(tmp_path) == ""


def test_a_unit_with_a_mistake_is_not(tmp_path: Path) -> None:
    assert "Restrat" in check_units(tmp_path, "Restrat=always\n")


def test_the_compose_file_is_accepted() -> None:
    assert check_compose(COMPOSE) == ""


def test_a_compose_file_with_a_mistake_is_not(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace("shm_size:", "shmsize:"))
    assert "shmsize" in check_compose(tmp_path / "compose.yaml")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_accepted(path: Path) -> None:
    assert check_manifest(path) == ""


def test_a_manifest_with_a_mistake_is_not(tmp_path: Path) -> None:
    text = (DEPLOY / "kubernetes" / "chat.yaml").read_text()
    (tmp_path / "chat.yaml").write_text(text.replace("periodSeconds:", "periodSecs:"))
    assert "periodSecs" in check_manifest(tmp_path / "chat.yaml")


# One machine: one user, one /dev/shm, room in it


def test_one_user_and_one_shm() -> None:
    assert {unit(path.name)["User"] for path in UNITS if path.suffix == ".service"} == {"chat"}
    assert (services()["web"]["ipc"], services()["worker"]["ipc"]) == ("shareable", "service:web")
    (volume,) = pod()["volumes"]
    assert volume["emptyDir"]["medium"] == "Memory"
    for container in containers().values():
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
        assert "runAsUser" not in container["securityContext"]
    uid = pod()["securityContext"]["runAsUser"]
    assert f"useradd --uid {uid} " in (DEPLOY / "Dockerfile").read_text()


def test_shm_has_room_for_all_that_the_layer_may_take() -> None:
    options = inspect.signature(HybridChannelLayer).parameters
    needed = (options["message_memory"].default + options["group_memory"].default) / 2**20
    (volume,) = pod()["volumes"]
    for size in (services()["web"]["shm_size"].removesuffix("m"), volume["emptyDir"]["sizeLimit"].removesuffix("Mi")):
        assert needed + 2 <= int(size) < 2 * needed
    for container in containers().values():
        assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) > needed + 256


def test_the_server_keeps_queues_and_writes_no_files() -> None:
    (container,) = manifest("Deployment", "valkey")["spec"]["template"]["spec"]["containers"]
    for command in (services()["valkey"]["command"], container["args"]):
        assert command[-2:] == ["--maxmemory-policy", "noeviction"]
        assert command[:5] == ["valkey-server", "--save", "", "--appendonly", "no"]


# What they run


COMMANDS = {"web": ["-m", "uvicorn", "chat.asgi:application"], "worker": ["manage.py", "runworker", "jobs"]}


@pytest.mark.parametrize("part", COMMANDS)
def test_all_run_the_same(part: str) -> None:
    (name,) = [path.name for path in UNITS if path.name.startswith(f"chat-{part}")]
    of_unit = shlex.split(unit(name)["ExecStart"])
    for command in (of_unit, services()[part]["command"], containers()[part]["command"]):
        assert Path(command[0]).name == "python"
        assert command[1:4] == COMMANDS[part]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What the README puts to /srv/chat."""
    site = tmp_path / "chat"
    shutil.copytree(EXAMPLES / "chat", site)
    (site / ".venv").symlink_to(sys.prefix)
    return site


@pytest.fixture
def environment(prefix: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HYBRID_", "DJANGO_", "PYTHON"))}
    return own | {"HYBRID_LAYER_PREFIX": prefix, "DJANGO_SETTINGS_MODULE": "chat.settings"}


def command_of(name: str, site: Path, port: int = 0) -> list[str]:
    command = unit(name)["ExecStart"].replace("/srv/chat", str(site)).replace("--port 8000", f"--port {port}")
    # With the signals of a fresh process, as systemd starts it: a test run in the background ignores SIGINT.
    return ["env", "--default-signal=INT", "--chdir", str(site), *shlex.split(command)]


@pytest.fixture
def web(site: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[Child, int]]:
    port = free_port()
    child = Child(command_of("chat-web.service", site, port), output=tmp_path / "web", environment=environment)
    yield child, port
    child.signal(signal.SIGKILL)
    child.wait(SECONDS)
    child.end_group()


def answer(port: int) -> int:
    """What the probe of the Kubernetes manifest gets, from an address that is not in ALLOWED_HOSTS."""
    get = containers()["web"]["readinessProbe"]["httpGet"]
    headers = {header["name"]: header["value"] for header in get["httpHeaders"]}
    request = urllib.request.Request(f"http://{HOST}:{port}{get['path']}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_web_process_answers_its_probe_and_ends_at_sigterm(
    web: tuple[Child, int], environment: dict[str, str], tmp_path: Path
) -> None:
    child, port = web
    block_until(lambda: answer(port) == 200 or not child.running, "it answers", SECONDS)
    assert answer(port) == 200, (tmp_path / "web").read_text()
    child.signal(signal.SIGTERM)  # systemd's and Kubernetes', too
    assert child.wait(SECONDS) in (0, -signal.SIGTERM)


def test_the_worker_ends_in_order_at_the_signal_that_is_named(
    site: Path, environment: dict[str, str], tmp_path: Path, prefix: str, run: Run
) -> None:
    number = unit("chat-worker@.service")["KillSignal"]
    stop = containers()["worker"]["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert (services()["worker"]["stop_signal"], stop) == (number, f"kill -{number.removeprefix('SIG')} 1")
    output = tmp_path / "worker"
    child = Child(command_of("chat-worker@.service", site), output=output, environment=environment)
    layer = HybridChannelLayer(prefix=prefix)

    async def job() -> None:
        own = await layer.new_channel()
        await layer.send("jobs", {"type": "job.run", "job": 1, "reply_to": own})
        await layer.receive(own)  # the worker is there
        await layer.close()

    try:
        run(job())
        child.signal(signal.Signals[number])
        assert child.wait(SECONDS) == 0, output.read_text()
        assert "Traceback" not in output.read_text()
    finally:
        child.signal(signal.SIGKILL)
        child.wait(SECONDS)
        child.end_group()


def probe(site: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = shlex.split(unit("chat-probe.service")["ExecStart"])
    of_container = ["python", *command[1:]]
    assert services()["worker"]["healthcheck"]["test"] == ["CMD", *of_container]
    assert containers()["worker"]["readinessProbe"]["exec"]["command"] == of_container
    return subprocess.run(
        command_of("chat-probe.service", site),
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_probe_of_a_layer_that_works(
    site: Path, environment: dict[str, str], hosts: list[str], number: int
) -> None:
    done = probe(site, environment | {"HYBRID_LAYER_HOSTS": ",".join(hosts[:number])})
    assert (done.returncode, done.stderr) == (0, "")
    assert ("servers: good" in done.stdout) == (number > 0)


def test_the_probe_of_a_layer_that_does_not(site: Path, environment: dict[str, str]) -> None:
    done = probe(site, environment | {"HYBRID_LAYER_HOSTS": f"redis://{HOST}:{free_port()}"})
    assert done.returncode == 1
    assert "servers: BAD" in done.stdout
    assert done.stderr == ""
