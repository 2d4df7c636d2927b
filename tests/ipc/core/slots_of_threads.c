/* In place of liveness.c: slots that belong to handles of one process, between which record locks would not tell.
 * No process dies. */
#include "liveness.h"

static _Atomic bool taken[SLOTS];

enum status liveness_claim(struct handle *handle, uint32_t slot) {
    (void)handle;
    return atomic_exchange(&taken[slot], true) ? EMPTY : OK;
}

void liveness_release(struct handle *handle, uint32_t slot) {
    (void)handle;
    atomic_store(&taken[slot], false);
}

bool liveness_is_dead(struct handle *handle, uint32_t slot, uint32_t generation) {
    (void)handle, (void)generation;
    return slot >= SLOTS || !atomic_load(&taken[slot]);
}

pid_t liveness_pid(struct handle *handle, uint32_t slot) {
    (void)handle, (void)slot;
    return 0;
}

bool liveness_is_alone(int lock_fd) {
    (void)lock_fd;
    return false;
}

bool liveness_descriptor_is_ours(struct handle *handle, bool *linked) {
    (void)handle;
    *linked = true;
    return true;
}
