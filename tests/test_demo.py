"""The example site as `make demo` runs it: starts, talks, survives its processes, ends with nothing left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.demo import EXAMPLE, Demo
from tests.support.servers import HOST, NewServer
from tests.support.waiting import block_any_moment, block_until

SECONDS = 30.0


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """One demo for the tests that leave it as it was."""
    with Demo() as demo:
        yield demo.start()
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
        assert "Traceback" not in demo.output


class Tab:
    """A browser tab without the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.pid: int = self.expect("welcome")["pid"]

    def send(self, **request: Any) -> None:
        self.socket.send(json.dumps(request))

    def expect(self, type: str, seconds: float = SECONDS, **parts: Any) -> dict[str, Any]:
        """The next message of this type that has these parts; others before it are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            message: dict[str, Any] = json.loads(self.socket.recv(timeout=max(0.01, deadline - time.monotonic())))
            if message["type"] == type and parts.items() <= message.items():
                return message


@contextlib.contextmanager
def tab(demo: Demo, name: str, room: str = "lobby", elsewhere: int | None = None) -> Iterator[Tab]:
    """Connect as the page does: again, as long as it is the process that one would rather not have."""
    path = f"/ws/{room}/?name={name}" + (f"&elsewhere={elsewhere}" if elsewhere else "")
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with open_socket(demo, path, demo.url) as socket:
            try:
                opened = Tab(socket)
            except ConnectionClosed:
                block_any_moment(0.04)
                continue
            yield opened
            return
    raise AssertionError(f"for {SECONDS} s every connection went to process {elsewhere}")


def open_socket(demo: Demo, path: str, origin: str) -> AbstractContextManager[ClientConnection]:
    return connect(f"ws://{HOST}:{demo.port}{path}", origin=origin, open_timeout=SECONDS)  # type: ignore[arg-type]


def test_page_and_its_files(demo: Demo) -> None:
    status, page = demo.get("/")
    assert status == 200
    assert 'data-room="lobby"' in page
    status, page = demo.get("/room/kitchen/")
    assert (status, 'data-room="kitchen"' in page) == (200, True)
    assert demo.get("/?room=my+room")[1].count('data-room="my-room"') == 1
    assert demo.get("/?room=%3Cb%3E")[1].count('data-room="lobby"') == 1
    assert demo.get("/static/chat/room.js")[0] == 200
    assert demo.get("/room/%3Cscript%3E/")[0] == 404
    assert demo.get("/room/" + "x" * 41 + "/")[0] == 404


def test_inside_the_layer(demo: Demo) -> None:
    """The page, and the numbers that it asks for: those of this machine, and no message's text."""
    assert "Inside" in demo.get("/inside/")[1]
    block_until(lambda: "runworker" in demo.get("/inside/numbers/")[1], "the worker is there")
    found = json.loads(demo.get("/inside/numbers/")[1])
    assert found["memory"]["messages"]["limit"] == 100 * 1024 * 1024
    assert found["counters"]["errors"] == 0


def test_tabs_of_two_processes_hear_each_other(demo: Demo) -> None:
    with tab(demo, "Ada") as ada, tab(demo, "Grace", elsewhere=ada.pid) as grace:
        assert ada.pid != grace.pid
        assert ada.expect("here", name="Grace")["pid"] == grace.pid
        assert grace.expect("here", name="Ada")["pid"] == ada.pid
        ada.send(type="say", text="Good morning")
        for hearer in (grace, ada):
            said = hearer.expect("said")
            assert (said["text"], said["name"], said["pid"]) == ("Good morning", "Ada", ada.pid)
            assert 0 <= said["ms"] < 5000
    with tab(demo, "Katherine") as katherine:
        katherine.send(type="say", text="Anybody?")
        katherine.expect("said")


def test_a_whisper_reaches_one_tab_only(demo: Demo) -> None:
    room = "whispers"
    with tab(demo, "Ada", room) as ada, tab(demo, "Grace", room, ada.pid) as grace, tab(demo, "Joan", room) as joan:
        to = ada.expect("here", name="Grace")["id"]
        ada.send(type="whisper", to=to, text="psst")
        assert grace.expect("said")["text"] == "psst"
        assert ada.expect("said")["private"] is True
        ada.send(type="say", text="aloud")
        assert joan.expect("said")["text"] == "aloud"
        ada.send(type="whisper", to="nobody", text="psst")
        assert "left" in ada.expect("refused")["reason"]


def test_rooms_are_apart(demo: Demo) -> None:
    with tab(demo, "Ada", "one") as ada, tab(demo, "Grace", "two") as grace:
        ada.send(type="say", text="in one")
        ada.expect("said")
        grace.send(type="say", text="in two")
        assert grace.expect("said")["text"] == "in two"


def test_the_worker_reports_to_the_tab_that_asked(demo: Demo) -> None:
    worker = demo.of_kind("runworker")
    with tab(demo, "Ada") as ada:
        ada.send(type="job")
        assert ada.expect("job")["state"] == "waiting"
        ada.send(type="job")
        assert "not done" in ada.expect("refused")["reason"]
        steps = []
        while not steps or steps[-1]["state"] != "done":
            steps.append(ada.expect("job"))
        assert {step["worker"] for step in steps} == {worker.pid}
        assert [step["step"] for step in steps] == sorted(step["step"] for step in steps)
        assert len(steps) > 20
        assert steps[-1]["step"] == steps[-1]["steps"]
        assert 3 < steps[-1]["pi"] < 3.3


def test_a_shell_may_speak(demo: Demo) -> None:
    with tab(demo, "Ada") as ada:
        command = [sys.executable, "manage.py", "say", "lobby", "Good evening"]
        done = subprocess.run(
            command, cwd=EXAMPLE, env=demo.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        said = ada.expect("said")
        assert (said["text"], said["kind"]) == ("Good evening", "command")
        assert said["pid"] not in (os.getpid(), ada.pid)


@pytest.mark.parametrize(
    "frame",
    [
        "", "{", "[]", "null", '"say"', '{"type": 1}', '{"type": []}', '{"type": "chat.said"}', '{"type": "receive"}',
        "[" * 5000, b"\x00\xff",
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_the_socket_stays(demo: Demo, frame: str | bytes) -> None:
    with tab(demo, "Ada") as ada:
        ada.socket.send(frame)
        assert "understood" in ada.expect("refused")["reason"]
        ada.send(type="say", text="still here")
        ada.expect("said", text="still here")


def test_text_is_cut_and_cleaned(demo: Demo) -> None:
    with tab(demo, "%00" + "N" * 99) as ada:
        ada.socket.send(r'{"type": "say", "text": "a\ud800b\u0000c\u202ed"}')
        said = ada.expect("said")
        assert said["text"] == "a b c d"
        assert said["name"] == "N" * 24
        ada.send(type="say", text="x" * 600)
        assert ada.expect("said")["text"] == "x" * 500
        for nothing in ("", "  ", None, 7, {"a": 1}, ["b"]):
            ada.send(type="say", text=nothing)
        ada.send(type="say", text="<b>end</b>")
        assert ada.expect("said")["text"] == "<b>end</b>"


def test_who_talks_too_fast_is_told(demo: Demo) -> None:
    with tab(demo, "Ada") as ada:
        for number in range(16):
            ada.send(type="say", text=str(number))
        assert "slower" in ada.expect("refused")["reason"]


def test_a_frame_that_is_too_large_closes_its_socket_alone(demo: Demo) -> None:
    with tab(demo, "Ada") as ada, tab(demo, "Grace", elsewhere=ada.pid) as grace:
        ada.send(type="say", text="x" * 20000)
        with pytest.raises(ConnectionClosed):
            ada.expect("said")
        grace.expect("left", name="Ada")
        grace.send(type="say", text="still here")
        grace.expect("said")


def test_whoever_closes_is_signed_off(demo: Demo) -> None:
    """Also when a message is on its way to the socket that closes: hence so often, and at once after a greeting."""
    for number in range(30):
        room = f"door-{number}"
        with tab(demo, "Ada", room) as ada, tab(demo, "Grace", room) as grace:
            ada.socket.close()
            grace.expect("left", name="Ada")


def test_other_sites_pages_get_no_socket(demo: Demo) -> None:
    with pytest.raises(InvalidStatus), open_socket(demo, "/ws/lobby/", "http://example.org"):
        pass


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.thorough) for each in (signal.SIGINT, signal.SIGHUP))],
)
def test_ends_in_order(number: signal.Signals) -> None:
    with Demo() as demo:
        demo.start()
        # In the middle of everything: a socket at each process, and a job under way.
        with tab(demo, "Ada") as ada, tab(demo, "Grace", elsewhere=ada.pid):
            ada.send(type="job")
            ada.expect("job", state="running")
            assert demo.shared_files()
            demo.signal(number)
            assert demo.wait() == 0
        assert "Traceback" not in demo.output
        assert "killed" not in demo.output
        assert demo.shared_files() == set()


@pytest.mark.thorough
def test_with_a_remote_the_chat_depends_on_it_and_comes_back(new_server: NewServer) -> None:
    server = new_server()
    with Demo(hosts=server.url) as demo:
        demo.start()
        assert "Redis or Valkey" in demo.get("/")[1]
        with tab(demo, "Ada") as ada, tab(demo, "Grace", elsewhere=ada.pid) as grace:
            ada.send(type="say", text="over the remote")
            grace.expect("said", text="over the remote")
            ada.send(type="job")
            ada.expect("job", state="running")
            server.kill()
            ada.send(type="say", text="lost")
            assert "cannot be reached" in ada.expect("refused")["reason"]
            server.restart()
            # Who is in which group was stored there and is gone; each tab's next heartbeat joins again.
            for _ in range(20):
                ada.send(type="say", text="back")
                with contextlib.suppress(TimeoutError):
                    grace.expect("said", seconds=1, text="back")
                    break
            else:
                raise AssertionError(f"no word came through; the demo printed:\n{demo.output}")
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0


def test_interrupted_while_it_starts() -> None:
    with Demo() as demo:
        block_any_moment(1)
        demo.signal(signal.SIGINT)
        code = demo.wait(again=signal.SIGINT)
        # Before run.py has set its handlers, the signal is Python's or the kernel's to handle.
        assert code in (0, 1, -signal.SIGINT)


def test_port_is_taken() -> None:
    with socket.create_server((HOST, 0)) as taken, Demo(taken.getsockname()[1]) as demo:
        assert demo.wait() == 1
        assert demo.output == f"Port {demo.port} cannot be used (Address already in use). Try another one: PORT=8001\n"


@pytest.mark.thorough
def test_killed_processes_are_replaced() -> None:
    with Demo() as demo:
        demo.start()
        with tab(demo, "Ada") as ada, tab(demo, "Grace", elsewhere=ada.pid) as grace:
            demo.of_kind("runworker").kill()
            demo.wait_for("takes its place")
            ada.send(type="job")
            assert ada.expect("job", state="running")["worker"] == demo.of_kind("runworker").pid

            os.kill(grace.pid, signal.SIGKILL)
            ada.send(type="say", text="Grace?")
            ada.expect("said", text="Grace?")
            demo.wait_for(f"web process {grace.pid} is gone")
            with tab(demo, "Grace", elsewhere=ada.pid) as grace_again:
                assert grace_again.pid not in (ada.pid, grace.pid)
                ada.send(type="say", text="There you are")
                grace_again.expect("said", text="There you are")
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0


@pytest.mark.thorough
def test_without_its_web_server_it_ends_and_says_so() -> None:
    with Demo() as demo:
        demo.start()
        demo.of_kind("uvicorn").kill()
        assert demo.wait() == 1
        assert "uvicorn ended (killed by SIGKILL)" in demo.output


@pytest.mark.thorough
def test_killed_itself_it_leaves_nothing_running() -> None:
    with Demo() as demo:
        demo.start()
        demo.signal(signal.SIGKILL)
        assert demo.wait() == -signal.SIGKILL
