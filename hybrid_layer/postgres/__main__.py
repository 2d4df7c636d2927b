# SPDX-License-Identifier: BSD-3-Clause
"""`python -m hybrid_layer.postgres`: prints the SQL that makes the layer's schema, or runs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.remote.postgres.schema import LOCK, SCHEMA, script


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 if the server could not be reached or refused the SQL."""
    parser = argparse.ArgumentParser(
        prog="python -m hybrid_layer.postgres",
        description=f"Print the SQL that makes the schema {SCHEMA}, or brings it to this release. It may run again.",
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        help="let this role use the schema, as the site's role if another one makes it; may be repeated",
    )
    parser.add_argument(
        "--run",
        metavar="HOST",
        help="run it instead, on this host: 'postgresql://user@localhost/name', or 'service=NAME'. Keep a password in "
        "a file such as ~/.pgpass",
    )
    options = parser.parse_args(arguments)
    sql = "\n".join([f"{LOCK};\n", script(), *map(_grant, options.role)])
    if options.run is None:
        sys.stdout.write(f"BEGIN;\n\n{sql}\n\nCOMMIT;\n")
        return 0
    return _run(sql, options.run)


def _grant(role: str) -> str:
    """Helpers are nobody's, and everything else may be called by who may use the schema."""
    quoted = role.replace('"', '""')
    return f'GRANT USAGE ON SCHEMA {SCHEMA} TO "{quoted}";'


def _run(sql: str, address: str) -> int:
    import psycopg

    from hybrid_layer.remote.postgres.hosts import parse_host

    name, is_service, service = address.partition("service=")
    try:
        host = parse_host({"service": service} if is_service and not name else address, "--run")
        with psycopg.connect(**host.parameters()) as connection:  # type: ignore[arg-type]
            connection.execute(sql.encode())
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except psycopg.Error as error:
        sys.stderr.write(f"{host.label}: {error}\n")
        return 1
    sys.stdout.write(f"{host.label} has the schema {SCHEMA}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
