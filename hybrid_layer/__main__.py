# SPDX-License-Identifier: BSD-3-Clause
"""``python -m hybrid_layer``: looks at a channel layer without importing any site."""

import sys

from hybrid_layer.commands.program import main

if __name__ == "__main__":
    sys.exit(main())
