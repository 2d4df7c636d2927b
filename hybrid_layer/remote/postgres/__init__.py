# SPDX-License-Identifier: BSD-3-Clause
"""The remote half over PostgreSQL."""
