# SPDX-License-Identifier: BSD-3-Clause
"""One server: its options, sockets, commands, and what its answers mean."""
