# SPDX-License-Identifier: BSD-3-Clause
"""What runs in a process for its remote half: the I/O thread, calls, pauses between tries."""
