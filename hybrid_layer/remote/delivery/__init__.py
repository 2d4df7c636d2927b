# SPDX-License-Identifier: BSD-3-Clause
"""How messages reach their channels over servers of any kind. Nothing here knows Redis: `store` defines what a kind of
servers can do."""
