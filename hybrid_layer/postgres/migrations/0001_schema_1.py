# SPDX-License-Identifier: BSD-3-Clause
"""The schema `hybrid_layer_1`, on PostgreSQL. On other databases it does nothing."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations


def _make(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        from hybrid_layer.remote.postgres.schema import LOCK, script

        _execute(editor.connection, f"{LOCK}; {script()}")


def _drop(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        _execute(editor.connection, "DROP SCHEMA IF EXISTS hybrid_layer_1 CASCADE")


def _execute(connection: Any, sql: str) -> None:
    # Not by the editor, which splits statements where sqlparse is installed.
    with connection.cursor() as cursor:
        cursor.execute(sql)


class Migration(migrations.Migration):  # type: ignore[misc]
    """Not `RunSQL`, which would run on every kind of database."""

    operations: ClassVar[list[Any]] = [migrations.RunPython(_make, _drop, elidable=False)]
