# SPDX-License-Identifier: BSD-3-Clause
"""What connects the layers with other packages. Nothing here is imported unless a site does."""
