"""`hybrid_layer.testing` in real projects: a run has a prefix of its own, all its processes share it, nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_layer.ipc.objects import segment_name
from hybrid_layer.testing import layers_for_tests, prefix_for_tests
from tests.support.processes import ROOT

FILES = {
    "manage.py": """
import multiprocessing, os, sys

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    multiprocessing.set_start_method(os.environ["START_METHOD"])
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
""",
    "settings.py": """
import os
from pathlib import Path
from hybrid_layer.testing import layers_for_tests

SECRET_KEY = "tests"
INSTALLED_APPS = ["channels"]
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
ASGI_APPLICATION = "asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db", "TEST": {"NAME": "test_db"}}}
SITE = {
    "default": {
        "BACKEND": "hybrid_layer.ipc.IPCChannelLayer",
        "CONFIG": {"prefix": "site", "message_memory": 1 << 20, "group_memory": 1 << 18},
    }
}
CHANNEL_LAYERS = SITE if "WITH_PLUGIN" in os.environ else layers_for_tests(SITE)
""",
    "urls.py": """
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpResponse
from django.urls import path


def view(request):
    async_to_sync(get_channel_layer().send)("jobs", {"type": "from the server"})
    return HttpResponse("sent")


urlpatterns = [path("", view)]
""",
    "asgi.py": """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.asgi import get_asgi_application
from channels.routing import ProtocolTypeRouter

application = ProtocolTypeRouter({"http": get_asgi_application()})
""",
    "workers.py": """
import asyncio, os, time
from pathlib import Path
from channels.layers import get_channel_layer

layer = get_channel_layer()  # before the workers are forked


def meet(place):
    own = Path(place) / str(os.getpid())
    own.touch()
    deadline = time.monotonic() + 30
    while len(list(Path(place).iterdir())) < 2:
        assert time.monotonic() < deadline, "there is no other worker"
        time.sleep(0.02)


def talk():
    async def main():
        await layer.send("jobs", {"type": "job", "from": os.getpid()})
        await asyncio.to_thread(meet, "sent")
        message = await asyncio.wait_for(layer.receive("jobs"), 10)
        assert message["from"] == os.getpid(), "that is another worker's message"
        try:
            await asyncio.wait_for(layer.receive("jobs"), 0.2)
        except TimeoutError:
            pass
        else:
            raise AssertionError("two workers share a prefix")
        await layer.send("jobs", {"type": "left"})  # nobody reads it

    meet("began")
    asyncio.run(main())
    (Path("prefixes") / str(os.getpid())).write_text(layer.prefix)
""",
    "test_parallel.py": """
import asyncio
from django.test import SimpleTestCase
import workers


class First(SimpleTestCase):
    def test(self):
        workers.talk()


class Second(SimpleTestCase):
    def test(self):
        workers.talk()
""",
    "test_live.py": """
import asyncio, urllib.request
from channels.layers import get_channel_layer
from channels.testing import ChannelsLiveServerTestCase


class Live(ChannelsLiveServerTestCase):
    serve_static = False

    def test(self):
        assert urllib.request.urlopen(self.live_server_url, timeout=20).read() == b"sent"

        async def main():
            return await asyncio.wait_for(get_channel_layer().receive("jobs"), 10)

        assert asyncio.run(main()) == {"type": "from the server"}
""",
    "test_xdist.py": """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
import django
django.setup()
import workers


def test_first():
    workers.talk()


def test_second():
    workers.talk()
""",
    "test_plugin.py": """
import asyncio
from pathlib import Path
from channels.layers import get_channel_layer


def test_one():
    layer = get_channel_layer()
    asyncio.run(layer.send("jobs", {"type": "left"}))
    (Path("prefixes") / "one").write_text(layer.prefix)
""",
    "conftest.py": """
import os
if "WITH_PLUGIN" in os.environ:
    pytest_plugins = ["hybrid_layer.testing.plugin"]
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django
    django.setup()
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for name in ("began", "sent", "prefixes"):
        (tmp_path / name).mkdir()
    return tmp_path


def run(project: Path, *arguments: str, method: str = "fork", **more: str) -> None:
    dropped = ("PYTEST_", "HYBRID_LAYER_", "DJANGO_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {"PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]), "START_METHOD": method, **more}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    prefixes = [path.read_text() for path in (project / "prefixes").iterdir()]
    assert len(set(prefixes)) == len(prefixes)
    left = {segment_name(prefix, os.geteuid()) for prefix in prefixes} & set(os.listdir("/dev/shm"))
    assert not left, "the run has left its segments"


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_parallel_workers_of_django(project: Path, method: str) -> None:
    run(project, "manage.py", "test", "--parallel", "2", "test_parallel", method=method)
    assert len(list((project / "prefixes").iterdir())) == 2


@pytest.mark.parametrize(
    "method",
    ["spawn", pytest.param("fork", marks=pytest.mark.long), pytest.param("forkserver", marks=pytest.mark.long)],
)
def test_the_live_server_of_channels(project: Path, method: str) -> None:
    run(project, "manage.py", "test", "test_live", method=method)


@pytest.mark.long
def test_workers_of_xdist(project: Path) -> None:
    run(project, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "test_xdist.py")
    assert len(list((project / "prefixes").iterdir())) == 2


def test_the_plugin_of_pytest(project: Path) -> None:
    run(project, "-m", "pytest", "-p", "no:cacheprovider", "test_plugin.py", WITH_PLUGIN="1")
    (prefix,) = (project / "prefixes").iterdir()
    assert prefix.read_text().startswith("test-")


def test_the_layers_of_a_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_LAYER_TEST_RUN", "test-1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    backend, other = "hybrid_layer.HybridChannelLayer", {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    site = {
        "default": {"BACKEND": backend, "CONFIG": {"prefix": "a", "capacity": 5}},
        "same": {"BACKEND": backend, "CONFIG": {"prefix": lambda: "a"}},
        "tests": {"BACKEND": backend, "CONFIG": {"hosts": ["redis://a"]}, "TEST_CONFIG": {"prefix": "b"}},
        "bare": {"BACKEND": backend},
        "other": other,
    }
    found = layers_for_tests(site)
    configs = {alias: entry["CONFIG"] for alias, entry in found.items() if entry is not other}
    prefixes = [config["prefix"]() for config in configs.values()]
    assert prefixes == ["test-1", "test-1", "test-1.1", "test-1.2"]
    rest = {alias: config.keys() - {"prefix"} for alias, config in configs.items()}
    assert rest == {"default": {"capacity"}, "same": set(), "tests": set(), "bare": set()}
    assert found["other"] is other
    assert "TEST_CONFIG" not in found["tests"]
    assert site["default"]["CONFIG"] == {"prefix": "a", "capacity": 5}
    again = layers_for_tests(found)
    assert [again[alias]["CONFIG"]["prefix"]() for alias in configs] == prefixes


def test_a_run_has_one_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_LAYER_TEST_RUN", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    first, second = prefix_for_tests(), prefix_for_tests()
    assert first() == second() == os.environ["HYBRID_LAYER_TEST_RUN"]
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw3")
    assert first() == f"{os.environ['HYBRID_LAYER_TEST_RUN']}-gw3"
    monkeypatch.setenv("HYBRID_LAYER_TEST_RUN", "another")
    assert first() != prefix_for_tests()() == "another-gw3"
