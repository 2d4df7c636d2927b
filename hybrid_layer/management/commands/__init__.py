# SPDX-License-Identifier: BSD-3-Clause
"""What Django looks for: see `hybrid_layer.commands`."""
