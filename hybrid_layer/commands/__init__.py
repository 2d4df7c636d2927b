# SPDX-License-Identifier: BSD-3-Clause
"""What ``python -m hybrid_layer`` and ``manage.py channel_layer`` do.

`arguments` describes the commands, `program` runs one, and imports its module then: a probe runs every few seconds.
Each command is a function ``run(target, arguments, output) -> exit code``.
"""
