# SPDX-License-Identifier: BSD-3-Clause
"""The options of the remote half over PostgreSQL, checked."""
