"""A real PgBouncer before a PostgreSQL server, for the tests: that of Debian. It refuses to run as root, too."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import psycopg

from tests.support.postgres import ADMIN, PostgresServer, as_user, give_away
from tests.support.server_process import ServerError, ServerProcess
from tests.support.servers import HOST, free_port


def find_pgbouncer() -> Path | None:
    """The program, or None if this machine has none."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


class PgBouncer(ServerProcess):
    """A pooler of connections to `server`."""

    def __init__(self, server: PostgresServer, **config: Any) -> None:
        program = find_pgbouncer()
        if program is None:
            raise ServerError("this machine has no pgbouncer")
        super().__init__("pgbouncer", HOST, free_port())
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
        self._config = self.directory / "pgbouncer.ini"
        self._config.write_text("".join(f"{line}\n" for line in lines))
        self._program = program
        give_away(self.directory)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def url_of(self, database: str) -> str:
        """The address of a database, as an entry of `hosts`."""
        return f"postgresql://{ADMIN}@{HOST}:{self.port}/{database}"

    def stop(self) -> None:
        """End it at once. Nothing happens if it has ended already."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)  # it keeps nothing, and a busy one takes its time to quit
            self._ended()

    def _start(self) -> None:
        self._run(as_user(self._program, self._config), None)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url_of(ADMIN)) as connection:
                return bool(connection.execute("SELECT 1").fetchone())
        except psycopg.OperationalError:
            return False
