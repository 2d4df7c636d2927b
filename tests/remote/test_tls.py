"""Servers that require TLS: own authorities, self-signed certificates, certificates of clients; and what fails."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.loops import leave_pending
from hybrid_layer.remote import RedisChannelLayer
from tests.remote.tools import Make, exchange, refused
from tests.support.certificates import Authority
from tests.support.clusters import info, wait
from tests.support.loops import Run
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import HOST, NewServer, Server, free_port
from tests.support.waiting import turns

pytestmark = pytest.mark.usefixtures("needs_redis")  # the servers of the packages are built without TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def new_tls_server(new_server: NewServer, authority: Authority) -> NewServer:
    """`new_tls_server(name, **config)`: a server with a certificate for `name`."""

    def new(name: str = HOST, **config: Any) -> Server:
        certificate, key = authority.issue(name)
        config = {"tls_auth_clients": "no", **config}
        return new_server("redis", tls_cert_file=certificate, tls_key_file=key, tls_ca_cert_file=authority.ca, **config)

    return new


def forms(port: int, ca: str) -> list[tuple[Any, dict[str, Any]]]:
    """Each an entry of `hosts`, and `connection_kwargs`."""
    return [
        ({"address": f"rediss://{HOST}:{port}", "ssl_ca_certs": ca}, {}),
        ({"address": f"valkeys://{HOST}:{port}", "ssl_ca_certs": ca}, {}),
        (f"rediss://{HOST}:{port}?ssl_ca_certs={ca}", {}),
        (f"rediss://{HOST}:{port}", {"ssl_ca_certs": ca}),
        ({"host": HOST, "port": port}, {"ssl": True, "ssl_ca_certs": ca}),
        ({"address": f"rediss://{HOST}:{port}", "ssl_cert_reqs": None}, {}),
        (f"rediss://{HOST}:{port}?ssl_cert_reqs=none", {}),
    ]


@pytest.mark.parametrize("form", range(7))
def test_forms(form: int, new_tls_server: NewServer, authority: Authority, make_layer: Make, run: Run) -> None:
    server = new_tls_server()
    host, connection_kwargs = forms(server.tls_port, authority.ca)[form]
    run(exchange(make_layer(hosts=[host], connection_kwargs=connection_kwargs)))


def test_a_cluster(
    new_tls_server: NewServer, authority: Authority, make_layer: Make, make_pubsub: Make, run: Run
) -> None:
    """Its nodes name one another by their TLS ports."""
    node = new_tls_server(cluster_enabled="yes", tls_cluster="yes", cluster_port=free_port())
    node.command("CLUSTER", "ADDSLOTS", *range(16384))
    wait(lambda: "cluster_state:ok" in info(node))
    entry = {"cluster": [f"rediss://{HOST}:{node.tls_port}"], "ssl_ca_certs": authority.ca}
    for make in (make_layer, make_pubsub):
        run(exchange(make(hosts=[entry])))


def test_options_for_tls_do_not_bother_hosts_without(
    new_tls_server: NewServer, server: Server, authority: Authority, make_layer: Make, run: Run
) -> None:
    hosts = [f"rediss://{HOST}:{new_tls_server().tls_port}", server.url, server.unix_url]
    run(exchange(make_layer(hosts=hosts, connection_kwargs={"ssl_ca_certs": authority.ca, "socket_keepalive": True})))
    with pytest.raises(ConfigurationError, match="connection_kwargs has 'ssl_ca_certs', which is for another kind"):
        make_layer(hosts=[server.url], connection_kwargs={"ssl_ca_certs": authority.ca})


def test_certificates_of_clients(new_tls_server: NewServer, authority: Authority, make_layer: Make, run: Run) -> None:
    server = new_tls_server(tls_auth_clients="yes")
    certificate, key = authority.issue("client")
    host = {"address": f"rediss://{HOST}:{server.tls_port}", "ssl_ca_certs": authority.ca}
    run(exchange(make_layer(hosts=[{**host, "ssl_certfile": certificate, "ssl_keyfile": key}])))
    run(refused(make_layer(hosts=[host]), rf"{HOST}:{server.tls_port} is not available: .*ssl_certfile"))


def test_an_unknown_authority(new_tls_server: NewServer, tmp_path: Path, make_layer: Make, run: Run) -> None:
    address = f"rediss://{HOST}:{new_tls_server().tls_port}"
    pattern = f"{address[9:]} is not available: .*CERTIFICATE_VERIFY_FAILED"
    run(refused(make_layer(hosts=[address]), pattern))
    run(refused(make_layer(hosts=[{"address": address, "ssl_ca_certs": Authority(tmp_path).ca}]), pattern))


def test_a_certificate_for_another_name(
    new_tls_server: NewServer, authority: Authority, make_layer: Make, run: Run
) -> None:
    host = {"address": f"rediss://{HOST}:{new_tls_server('example.org').tls_port}", "ssl_ca_certs": authority.ca}
    run(refused(make_layer(hosts=[host]), "IP address mismatch"))
    run(exchange(make_layer(hosts=[{**host, "ssl_check_hostname": False}])))


def test_one_side_without_tls(new_tls_server: NewServer, make_layer: Make, run: Run) -> None:
    server = new_tls_server()
    run(refused(make_layer(hosts=[(HOST, server.tls_port)]), f"{HOST}:{server.tls_port} is not available: .*TLS"))
    layer = make_layer(hosts=[f"rediss://{HOST}:{server.port}"], timeout=0.5)  # the server waits for a line's end
    run(refused(layer, f"{HOST}:{server.port} is not available: no connection within 0.5 s"))


def test_a_server_that_never_answers_the_handshake(make_layer: Make, run: Run) -> None:
    with socket.create_server((HOST, 0)) as deaf:
        address = f"{HOST}:{deaf.getsockname()[1]}"
        layer = make_layer(hosts=[f"rediss://{address}"], timeout=0.3)
        run(refused(layer, f"{address} is not available: no connection within 0.3 s"))


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_files_that_are_missing_or_nonsense_are_refused_at_once(option: str, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    with pytest.raises(ConfigurationError, match=rf"hosts\[0\] has {option}=.*nonsense.pem'.*no such file"):
        RedisChannelLayer(hosts=[{"address": "rediss://localhost", option: str(nonsense)}])
    nonsense.write_text("nonsense")
    options = {option: str(nonsense)} | ({"ssl_keyfile": str(nonsense)} if option == "ssl_certfile" else {})
    with pytest.raises(ConfigurationError, match=r"hosts\[0\] cannot be used: SSLError"):
        RedisChannelLayer(hosts=[{"address": "rediss://localhost", **options}])


def end_in_every_way(parent: Parent, host: dict[str, Any], prefix: str) -> None:
    """Loops that end in order or are closed without notice, while their connections are in use."""

    async def main(layer: Any) -> None:
        name = await layer.new_channel()
        for channel in ("normal", name):
            await layer.send(channel, {"n": 1})
            await layer.receive(channel)
        _waiting.extend(asyncio.create_task(layer.receive(channel)) for channel in ("normal", name))
        await layer.send("other", {"n": 1})
        await turns()

    layer = RedisChannelLayer(hosts=[host], prefix=prefix)
    asyncio.run(main(layer))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(layer))
    for task in asyncio.all_tasks(loop):
        leave_pending(task)  # the test's own
    loop.close()
    asyncio.run(main(layer))


_waiting: list[asyncio.Task[Any]] = []


def test_the_end_of_a_loop_is_silent(
    new_tls_server: NewServer, authority: Authority, prefix: str, spawn: Spawn
) -> None:
    server = new_tls_server()
    host = {"address": f"rediss://{HOST}:{server.tls_port}", "ssl_ca_certs": authority.ca}
    spawn(end_in_every_way, host, prefix).result()
    deadline = time.monotonic() + 5
    while server.command("INFO", "clients")["connected_clients"] > 1:  # the one that asks
        assert time.monotonic() < deadline
