# SPDX-License-Identifier: BSD-3-Clause
"""Redis and Valkey as the store: layer and options, then the store, its connections, hosts and servers."""
