/* SPDX-License-Identifier: BSD-3-Clause */
/* Takes the record lock of a slot, and asks the kernel whether another process has its own. */
#include "liveness.h"

#include <sys/stat.h>
#include <unistd.h>

static struct flock byte_of(uint32_t slot, short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = FIRST_BYTE + (off_t)slot, .l_len = 1};
}

/* Asks which process holds what `lock` describes, and stores the first holder there, or F_UNLCK. False: the kernel gave
 * no answer. */
static bool ask(int fd, struct flock *lock) { return record_lock(fd, F_GETLK, lock) == 0; }

enum status liveness_claim(struct handle *handle, uint32_t slot) {
    struct flock lock = byte_of(slot, F_WRLCK);
    if (record_lock(handle->lock_fd, F_SETLK, &lock) == 0)
        return OK;
    return errno == EACCES || errno == EAGAIN ? EMPTY : SYSTEM_ERROR;
}

void liveness_release(struct handle *handle, uint32_t slot) {
    struct flock lock = byte_of(slot, F_UNLCK);
    (void)fcntl(handle->lock_fd, F_SETLK, &lock);
}

bool liveness_is_dead(struct handle *handle, uint32_t slot, uint32_t generation) {
    if (slot >= SLOTS)
        return true;
    /* The byte is read before the generation: a newcomer takes the byte first, then stores its generation. In the other
     * order a slot that changes hands in between would look like its former owner alive. */
    struct flock lock = byte_of(slot, F_WRLCK);
    if (!ask(handle->lock_fd, &lock))
        return false;
    bool dead =
        lock.l_type == F_UNLCK || (atomic_load(&handle->slots[slot].generation) & GENERATION_MASK) != generation;
    bool linked;
    return dead && liveness_descriptor_is_ours(handle, &linked);
}

static pid_t pid_of(int fd, struct flock lock) {
    return ask(fd, &lock) && lock.l_type != F_UNLCK && lock.l_pid > 0 ? lock.l_pid : 0;
}

pid_t liveness_pid(struct handle *handle, uint32_t slot) { return pid_of(handle->lock_fd, byte_of(slot, F_WRLCK)); }

pid_t record_lock_pid(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    return pid_of(fd, lock);
}

bool liveness_is_alone(int lock_fd) {
    struct flock lock = byte_of(0, F_WRLCK);
    lock.l_len = SLOTS;
    return ask(lock_fd, &lock) && lock.l_type == F_UNLCK;
}

bool liveness_descriptor_is_ours(struct handle *handle, bool *linked) {
    struct stat status;
    *linked = true;
    if (fstat(handle->lock_fd, &status) != 0)
        return errno != EBADF; /* without an answer it is taken for what it was */
    if (status.st_dev != handle->device || status.st_ino != handle->inode)
        return false;
    *linked = status.st_nlink > 0;
    return true;
}
