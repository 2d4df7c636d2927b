/* SPDX-License-Identifier: BSD-3-Clause */
/* Remembers a dead process until the operation that met it is done. */
#include "suspect.h"

#include "liveness.h"

bool suspect_is_dead(struct handle *handle, uint32_t slot, uint32_t generation) {
    if (slot >= SLOTS || (slot == handle->private->slot && generation == handle->private->generation) ||
        !liveness_is_dead(handle, slot, generation))
        return false;
    handle->suspect = (struct suspect){slot + 1, generation};
    return true;
}
