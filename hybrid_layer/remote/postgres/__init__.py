# SPDX-License-Identifier: BSD-3-Clause
"""PostgreSQL as the store."""
