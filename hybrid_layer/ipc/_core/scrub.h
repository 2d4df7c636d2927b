/* SPDX-License-Identifier: BSD-3-Clause */
/* Looks for damage that no operation would meet. The segment lock is held. */
#pragma once

#include "handle.h"

/* Looks at some further records of the group area. DAMAGED, and counted, if one is not what it was: a membership that
 * is cut off from a list, or whose numbers have changed, gets nothing more, and no operation would notice. */
enum status scrub_groups(struct handle *handle, uint32_t blocks);
