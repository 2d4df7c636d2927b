# SPDX-License-Identifier: BSD-3-Clause
"""Connections: which one a command travels on, blocking reads, subscriptions."""
