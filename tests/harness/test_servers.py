"""The servers that the other tests rely on: they start, fail, recover and end as asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from tests.support.servers import KINDS, Kind, NewServer, Server, ServerError, free_port, start_server
from tests.support.waiting import block_until


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each of them in turn."""
    if request.param == "redis":
        request.getfixturevalue("needs_redis")
    kind: Kind = request.param
    return kind


def test_three_servers_answer_and_are_told_apart(servers: list[Server], hosts: list[str]) -> None:
    assert len({server.port for server in servers}) == len({server.pid for server in servers}) == 3
    assert hosts == [f"redis://127.0.0.1:{server.port}" for server in servers]
    for server in servers:
        assert server.command("PING")
        assert psutil.Process(server.pid).name() == ("valkey-server" if server.kind == "valkey" else "redis-server")


def test_kinds(kind: Kind, new_server: NewServer) -> None:
    about = new_server(kind).command("INFO", "server")
    assert ("server_name" in about) is (kind == "valkey")
    assert (str(about["redis_version"]).startswith("6.2.")) is (kind == "redis-6.2")


def test_nothing_is_kept_on_disk(new_server: NewServer) -> None:
    server = new_server()
    server.command("SET", "key", "value")
    server.stop()
    assert {path.name for path in server.directory.iterdir()} == {"config", "log"}


def test_unix_socket(new_server: NewServer) -> None:
    server = new_server(requirepass="let me in")
    with redis.Redis.from_url(server.unix_url) as client:
        assert client.ping()


def test_config_reaches_the_server(new_server: NewServer) -> None:
    first = new_server(maxmemory="10mb", requirepass='a "word"')
    assert str(10 * 2**20) in str(first.command("CONFIG", "GET", "maxmemory"))
    second = new_server(replicaof=[first.host, first.port], masterauth='a "word"')
    assert second.command("INFO", "replication")["role"] == "slave"


def test_kill_and_restart_lose_everything_but_the_port(new_server: NewServer) -> None:
    server = new_server()
    port, pid = server.port, server.pid
    server.command("SET", "key", "value")
    server.kill()
    assert not server.running
    assert not psutil.pid_exists(pid)
    with pytest.raises(redis.ConnectionError):
        server.command("PING")
    server.restart()
    assert server.port == port
    assert server.pid != pid
    assert server.command("GET", "key") is None


def test_a_paused_server_is_silent_and_then_goes_on(new_server: NewServer) -> None:
    server = new_server()
    server.command("SET", "key", "value")
    server.pause()
    with redis.Redis(port=server.port, socket_timeout=0.05, retry=None) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    server.resume()
    assert server.command("GET", "key") == b"value"


def test_a_paused_server_can_be_closed() -> None:
    with start_server() as server:
        server.pause()
    assert not server.running
    assert not server.directory.exists()


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerError, match="no-such-option"):
        start_server(no_such_option="1")


def test_a_port_that_is_taken_is_an_error(servers: list[Server]) -> None:
    with pytest.raises(ServerError, match="in use"):
        start_server(port=servers[0].port)


def test_free_port_is_free() -> None:
    with start_server(port=free_port()) as server:
        assert server.command("PING")


def test_servers_end_with_a_run_that_is_killed(kind: Kind) -> None:
    code = f"from tests.support.servers import start_server; s = start_server({kind!r}); "
    code += "print(s.pid, s.directory, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pid, directory = run.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        run.kill()
    _wait_until_gone(int(pid), Path(directory.decode()))


def test_servers_end_with_an_interpreter_that_forgot_them() -> None:
    code = "from tests.support.servers import *; s = start_server(); print(s.pid, s.directory)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    pid, directory = done.stdout.split()
    _wait_until_gone(int(pid), Path(directory))


def _wait_until_gone(pid: int, directory: Path) -> None:
    def is_gone() -> bool:
        has_ended = not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return has_ended and not directory.exists()

    block_until(is_gone, f"server {pid} and {directory} are gone")
