# SPDX-License-Identifier: BSD-3-Clause
"""PostgreSQL as the store."""

from hybrid_layer.exceptions import ConfigurationError

try:
    import psycopg  # noqa: F401  # said here, before any of our modules needs it
except ImportError as error:
    raise ConfigurationError(
        f"PostgreSQL hosts need psycopg 3, which cannot be imported ({error}). Install it: "
        f"pip install 'hybrid_layer[postgres]'."
    ) from error
