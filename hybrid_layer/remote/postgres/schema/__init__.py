# SPDX-License-Identifier: BSD-3-Clause
"""The tables and functions in a database: the files ``*.sql`` beside this one, in the order of their names.

The version is part of the schema's name. A release that only adds functions has a higher revision of the same schema;
one that changes what older releases rely on has another schema, and does not meet these.
"""

from __future__ import annotations

from importlib import resources

SCHEMA = "hybrid_layer_1"
REVISION = 1
"""What ``7_rights.sql`` says, too."""
LOCK = "SELECT pg_advisory_xact_lock(5712094113)"
"""Lets one session at a time make the schema, until the end of its transaction."""


def script() -> str:
    """The SQL that makes the schema, or brings it to this release's revision. It may run again at any time."""
    files = sorted(resources.files(__name__).iterdir(), key=lambda file: file.name)
    return "\n".join(file.read_text() for file in files if file.name.endswith(".sql"))
