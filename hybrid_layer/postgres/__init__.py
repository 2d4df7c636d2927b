# SPDX-License-Identifier: BSD-3-Clause
"""A Django app that makes the layer's schema in PostgreSQL databases with `migrate`.

`python -m hybrid_layer.postgres` does the same without Django, or prints the SQL for whoever may run it.
"""
