/* SPDX-License-Identifier: BSD-3-Clause */
/* Formats, maps, joins and leaves a segment. */
#include "segment.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocks.h"
#include "epochs.h"
#include "exclusion.h"
#include "hash.h"
#include "liveness.h"
#include "lock.h"
#include "memory.h"
#include "reaping.h"

#define SHARDS_SIZE ((REMOTE_SHARDS * sizeof(struct shard) + PAGE - 1) / PAGE * PAGE)
#define TALLIES_OFFSET (PAGE + SHARDS_SIZE)
#define TALLIES_SIZE (((TALLIES + 1) * sizeof(struct tally) + PAGE - 1) / PAGE * PAGE)
#define SLOTS_OFFSET (TALLIES_OFFSET + TALLIES_SIZE)

static size_t page_up(size_t size) { return (size + PAGE - 1) & ~(size_t)(PAGE - 1); }

/* Chains stay short even in a full area. */
static uint32_t buckets_for(uint32_t records) {
    uint32_t buckets = 1024;
    while (buckets < records / 4 && buckets < (1u << 24))
        buckets *= 2;
    return buckets;
}

/* Where an area lies in the segment, in bytes, and how large it is. */
struct place {
    size_t buckets_offset, offset;
    uint32_t buckets, blocks; /* buckets: a power of two */
};

/* What follows from the two memory options. All that comes before the blocks is reserved at creation. */
struct geometry {
    struct place messages, groups;
    size_t size;
};

static void geometry_of(uint64_t message_bytes, uint64_t group_bytes, struct geometry *geometry) {
    struct place *messages = &geometry->messages, *groups = &geometry->groups;
    messages->blocks = (uint32_t)(message_bytes / BLOCK) + 1;
    groups->blocks = (uint32_t)(group_bytes / BLOCK) + 1;
    messages->buckets = buckets_for(messages->blocks / 2); /* a channel is there for something */
    groups->buckets = buckets_for(groups->blocks);
    messages->buckets_offset = page_up(SLOTS_OFFSET + SLOTS * sizeof(struct slot));
    groups->buckets_offset = messages->buckets_offset + page_up(messages->buckets * sizeof(uint32_t));
    messages->offset = groups->buckets_offset + page_up(groups->buckets * sizeof(uint32_t));
    groups->offset = messages->offset + page_up((size_t)messages->blocks * BLOCK);
    size_t end = groups->offset + (size_t)groups->blocks * BLOCK;
    geometry->size = (end + LARGEST_PAGE - 1) & ~(size_t)(LARGEST_PAGE - 1);
}

/* Not a secret: it detects what was overwritten by mistake. */
static uint64_t seal_of(const struct header *header) {
    static const uint64_t seed[2] = {LAYOUT_VERSION, SLOTS};
    size_t begin = sizeof header->magic;
    return hash_bytes(seed, (const char *)header + begin, offsetof(struct header, seal) - begin);
}

static bool has_magic(const struct header *header) {
    return memcmp(header->magic, LAYOUT_MAGIC, sizeof header->magic) == 0;
}

bool segment_is_sealed(struct handle *handle) {
    return has_magic(handle->header) && handle->header->seal == handle->seal && seal_of(handle->header) == handle->seal;
}

bool segment_is_whole(struct handle *handle) {
    struct stat status;
    if (handle->fd != handle->lock_fd) /* in that case it was closed once the segment was mapped */
        return true;
    return fstat(handle->fd, &status) != 0 || status.st_size >= (off_t)handle->size;
}

bool segment_retire(struct handle *handle) {
    return atomic_exchange(&handle->header->retired, RETIRED_MARK) != RETIRED_MARK;
}

enum status segment_format(int fd, int lock_fd, const struct beginning *beginning) {
    struct geometry geometry;
    struct stat locks;
    struct rlimit limit;
    geometry_of(beginning->message_bytes, beginning->group_bytes, &geometry);
    /* Asked first, as the kernel answers with a signal too, which kills a process whose Python was told not to handle
     * signals. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && geometry.size > limit.rlim_cur) {
        errno = EFBIG;
        return SYSTEM_ERROR;
    }
    if (fstat(lock_fd, &locks) != 0 || ftruncate(fd, (off_t)geometry.size) != 0)
        return SYSTEM_ERROR;
    int error = memory_reserve(fd, 0, (off_t)geometry.messages.offset);
    if (error != 0) {
        errno = error;
        return error == ENOSPC || error == ENOMEM || error == EDQUOT ? NO_SHM : SYSTEM_ERROR;
    }
    struct header *header = mmap(NULL, SLOTS_OFFSET, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED)
        return SYSTEM_ERROR;
    header->layout_version = LAYOUT_VERSION;
    header->slots = SLOTS;
    header->size = geometry.size;
    header->message_bytes = beginning->message_bytes;
    header->group_bytes = beginning->group_bytes;
    header->lock_inode = locks.st_ino;
    header->hash_seed[0] = beginning->seed[0];
    header->hash_seed[1] = beginning->seed[1];
    strncpy(header->prefix, beginning->prefix, sizeof header->prefix - 1);
    strncpy(header->project, beginning->project, sizeof header->project - 1);
    strncpy(header->machine, beginning->machine, sizeof header->machine - 1);
    atomic_store(&header->epoch, epoch_word(1));
    blocks_set_fresh(&header->messages, 1); /* block 0 is "none" */
    blocks_set_fresh(&header->groups, 1);
    shards_begin(header, (struct shard *)((unsigned char *)header + PAGE), beginning->heritage);
    if (beginning->heritage != NULL)
        figures_store(header, (struct tally *)((unsigned char *)header + TALLIES_OFFSET),
                      &beginning->heritage->figures);
    if (beginning->is_successor)
        shards_pause(header);
    header->seal = seal_of(header);
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(header->magic, LAYOUT_MAGIC, sizeof header->magic);
    munmap(header, SLOTS_OFFSET);
    return OK;
}

static void area_open(struct area *area, struct handle *handle, struct area_books *books, const struct place *place) {
    unsigned char *base = (unsigned char *)handle->header;
    area->base = base + place->offset;
    area->blocks = place->blocks;
    area->reserved = 0;
    area->file_offset = (off_t)place->offset;
    area->books = books;
    area->buckets = (uint32_t *)(void *)(base + place->buckets_offset);
    area->bucket_mask = place->buckets - 1;
}

static enum status map(int fd, int lock_fd, int protection, struct handle *handle, const char **reason) {
    struct stat status, locks;
    struct geometry geometry;
    *reason = NULL;
    if (fstat(fd, &status) != 0 || fstat(lock_fd, &locks) != 0)
        return SYSTEM_ERROR;
    if (status.st_size < (off_t)PAGE) {
        *reason = "it is not finished";
        return DAMAGED;
    }
    struct header *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        return SYSTEM_ERROR;
    struct header copy, *header = &copy;
    memcpy(&copy, shared, sizeof copy);
    munmap(shared, PAGE);
    uint64_t message_bytes = header->message_bytes, group_bytes = header->group_bytes;
    if (!has_magic(header))
        *reason = "it is not finished, or no segment";
    else if (header->layout_version != LAYOUT_VERSION || header->slots != SLOTS)
        *reason = "it has another layout";
    else if (header->seal != seal_of(header))
        *reason = "its header is damaged";
    else if (message_bytes > (uint64_t)UINT32_MAX * BLOCK / 2 || group_bytes > (uint64_t)UINT32_MAX * BLOCK / 2)
        *reason = "its sizes are impossible";
    else if (header->lock_inode != locks.st_ino)
        *reason = "its processes hold their locks on another file";
    handle->seed[0] = header->hash_seed[0];
    handle->seed[1] = header->hash_seed[1];
    handle->seal = header->seal;
    memcpy(handle->machine, header->machine, sizeof header->machine);
    handle->machine[sizeof header->machine] = '\0';
    if (*reason != NULL)
        return DAMAGED;
    geometry_of(message_bytes, group_bytes, &geometry);
    if ((uint64_t)status.st_size != geometry.size) {
        *reason = "its size is not what its header says";
        return DAMAGED;
    }
    void *base = mmap(NULL, geometry.size, protection, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return SYSTEM_ERROR;
    handle->fd = fd;
    handle->lock_fd = lock_fd;
    handle->device = locks.st_dev;
    handle->inode = locks.st_ino;
    handle->size = geometry.size;
    handle->header = base;
    handle->shards = (struct shard *)((unsigned char *)base + PAGE);
    handle->tallies = (struct tally *)((unsigned char *)base + TALLIES_OFFSET);
    handle->slots = (struct slot *)((unsigned char *)base + SLOTS_OFFSET);
    area_open(&handle->messages, handle, &handle->header->messages, &geometry.messages);
    area_open(&handle->groups, handle, &handle->header->groups, &geometry.groups);
    return OK;
}

enum status segment_map(int fd, int lock_fd, struct handle *handle, const char **reason) {
    enum status status = map(fd, lock_fd, PROT_READ | PROT_WRITE, handle, reason);
    if (status != OK || (handle->private = private_open()) != NULL)
        return status;
    int error = errno;
    segment_unmap(handle);
    errno = error;
    return SYSTEM_ERROR;
}

enum status segment_map_to_observe(int fd, int lock_fd, struct handle *handle, const char **reason) {
    return map(fd, lock_fd, PROT_READ, handle, reason);
}

void segment_unmap(struct handle *handle) {
    if (handle->header != NULL)
        munmap(handle->header, handle->size);
    if (handle->private != NULL)
        private_close(handle->private);
    handle->header = NULL;
    handle->private = NULL;
}

static uint32_t next_generation(struct handle *handle, uint32_t slot) {
    uint32_t generation = (atomic_load(&handle->slots[slot].generation) + 1) & GENERATION_MASK;
    /* Not one that the lock word still names: its dead owner would look alive. */
    if (slot_word(slot, generation) == (atomic_load(&handle->header->lock_word) & ~WORD_WAITERS))
        generation = (generation + 1) & GENERATION_MASK;
    return generation;
}

static enum status publish(struct handle *handle, uint32_t slot) {
    enum status status = lock_take(handle, WAIT);
    if (status != OK)
        return status;
    status = slot_clear(handle, slot);
    if (status == OK) {
        if (handle->header->slots_used <= slot)
            handle->header->slots_used = slot + 1;
        handle->slots[slot].published = handle->private->generation + 1;
    } else {
        atomic_store(&handle->header->damaged, 1);
    }
    lock_give(handle);
    return status;
}

/* Takes a slot, which nobody else sees yet. */
static enum status claim(struct handle *handle) {
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        enum status status = liveness_claim(handle, slot);
        if (status == EMPTY)
            continue;
        if (status != OK)
            return status;
        uint32_t generation = next_generation(handle, slot);
        atomic_store(&handle->slots[slot].generation, generation);
        handle->word = slot_word(slot, generation);
        atomic_store(&handle->abandoned, 0); /* in a forked child: loans of its parent's slot */
        private_attach(handle->private, slot, generation);
        return OK;
    }
    return NO_SLOT;
}

static void give_up(struct handle *handle) {
    handle->private->attached = 0;
    liveness_release(handle, handle->private->slot);
}

enum status segment_join(struct handle *handle) {
    enum status status = claim(handle);
    if (status != OK)
        return status;
    status = publish(handle, handle->private->slot);
    if (status == DAMAGED) /* marked as such; taking the lock again rebuilds */
        status = publish(handle, handle->private->slot);
    if (status != OK)
        give_up(handle);
    return status;
}

enum status segment_bequeath(struct handle *handle, struct heritage *heritage) {
    bool is_guest = !private_is_attached(handle->private), takeover;
    if (atomic_load(&handle->header->retired) != RETIRED_MARK)
        return STALE;
    enum status status = is_guest ? claim(handle) : OK;
    if (status != OK)
        return status;
    /* After a death, too: each change of the shard table is complete by its commit, or is made again. */
    status = exclusion_take(handle, WAIT, &takeover);
    if (status == OK) {
        if (segment_is_sealed(handle))
            shards_bequeath(handle, heritage);
        else
            status = DAMAGED;
        exclusion_give(handle);
    }
    if (is_guest)
        give_up(handle);
    return status;
}

enum status segment_leave(struct handle *handle) {
    struct private_page *page = handle->private;
    if (!private_is_attached(page))
        return OK;
    enum status status = lock_take(handle, WAIT);
    if (status == OK) {
        handle->slots[page->slot].published = 0; /* an orderly leave is not counted as a death */
        status = slot_clear(handle, page->slot);
        if (status != OK)
            atomic_store(&handle->header->damaged, 1);
        page->attached = 0; /* before another thread can acquire the lock under a slot that is not ours any more */
        lock_give(handle);
    }
    page->attached = 0;
    liveness_release(handle, page->slot);
    return status;
}
