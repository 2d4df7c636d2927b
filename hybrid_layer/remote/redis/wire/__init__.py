# SPDX-License-Identifier: BSD-3-Clause
"""The formats on the servers and between processes: names of keys, entries, published messages."""
