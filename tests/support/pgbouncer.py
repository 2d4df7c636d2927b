"""A real PgBouncer before a PostgreSQL server, for the tests: that of Debian. It refuses to run as root, too."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from tests.support.child import Child
from tests.support.closing import Closing
from tests.support.guardian import guardian
from tests.support.postgres import ADMIN, PostgresServer, as_user, give_away
from tests.support.servers import HOST, START_SECONDS, STOP_SECONDS, ServerError, free_port
from tests.support.waiting import block_until


def find_pgbouncer() -> Path | None:
    """The program, or None if this machine has none."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


class PgBouncer(Closing):
    """A pooler of connections to `server`. As a context manager it ends with the block."""

    def __init__(self, server: PostgresServer, **config: Any) -> None:
        program = find_pgbouncer()
        if program is None:
            raise ServerError("this machine has no pgbouncer")
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="hybrid-layer-pgbouncer-"))
        guardian.watch("directory", self._directory)
        settings = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "ignore_startup_parameters": "extra_float_digits",
            **config,
        }
        to = f"host={server.host} port={server.port} user={ADMIN}"
        lines = ["[databases]", f"* = {to}", "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
        path = self._directory / "pgbouncer.ini"
        path.write_text("".join(f"{line}\n" for line in lines))
        give_away(self._directory)
        self._child = Child(as_user(program, path), output=self._directory / "log")
        try:
            block_until(lambda: self._answers() or not self._child.running, "it answers", START_SECONDS)
            if not self._child.running:
                raise ServerError(f"pgbouncer ended at once: {(self._directory / 'log').read_text()[-2000:]}")
        except BaseException:
            self.close()
            raise

    def url_of(self, database: str) -> str:
        """The address of a database, as an entry of `hosts`."""
        return f"postgresql://{ADMIN}@{HOST}:{self.port}/{database}"

    def close(self) -> None:
        """Stop it and remove its directory."""
        self._child.signal(signal.SIGQUIT)
        self._child.wait(STOP_SECONDS)
        self._child.end_group()
        shutil.rmtree(self._directory, ignore_errors=True)
        guardian.forget("directory", self._directory)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url_of(ADMIN)) as connection:
                return bool(connection.execute("SELECT 1").fetchone())
        except psycopg.OperationalError:
            return False
