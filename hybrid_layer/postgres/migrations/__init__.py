# SPDX-License-Identifier: BSD-3-Clause
"""One for each schema, and for each revision of it."""
