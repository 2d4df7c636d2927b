# SPDX-License-Identifier: BSD-3-Clause
"""What an entry of `hosts` can lead to: a server, a name, a service of Sentinels, a cluster."""
