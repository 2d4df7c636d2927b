/* SPDX-License-Identifier: BSD-3-Clause */
/* One process's view of one segment: private memory, never shared.
 *
 * What is fixed at creation (geometry, seed) is copied here at attach, so that later damage in the segment cannot lead
 * a pointer astray. The mapping lives as long as the Python object, and every thread inside holds a reference to that:
 * even a daemon thread at exit.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* every file of the core includes this first */
#endif

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "layout.h"

enum status {
    OK = 0,
    EMPTY,     /* nothing there */
    FULL,      /* the channel is at capacity */
    NO_MEMORY, /* the message area is full */
    NO_GROUP_MEMORY,
    NO_SHM,        /* /dev/shm is full, or a quota */
    NO_SPACE,      /* the caller's buffer is too small; nothing was changed */
    NO_SLOT,       /* all slots are taken */
    GONE,          /* the inbox's process is not there */
    STALE,         /* the loop has no place in this slot, or no longer */
    BUSY,          /* the lock was not acquired in time */
    GROW_MESSAGES, /* this area needs another extent, reserved outside the lock; nothing was changed */
    GROW_GROUPS,
    DAMAGED,     /* the segment cannot be used any more */
    DETACHED,    /* this process (or this child of a fork) holds no slot: attach first */
    RETIRED,     /* the processes of this segment have moved to another one, or this one has lost its descriptor */
    SYSTEM_ERROR /* see errno */
};

/* How long to wait for the lock: not at all; not at all, but take it from a dead owner; up to 50 ms. */
enum mode { TRY, GLANCE, WAIT };

/* What belongs to one process and to no forked child of it; see memory.h. */
struct private_page {
    _Atomic uint32_t attached; /* 0: it is not; cleared with the mutex in hand */
    uint32_t pid;              /* whose it is, where no kernel wipes it */
    uint32_t slot;
    uint32_t generation;
    pthread_mutex_t mutex;
};

struct area {
    unsigned char *base;       /* block 0, which is never used */
    uint32_t blocks;           /* including block 0 */
    _Atomic uint32_t reserved; /* blocks that this process knows to be backed by memory; only rises */
    off_t file_offset;
    struct area_books *books;
    uint32_t *buckets;
    uint32_t bucket_mask;
};

/* A dead process that the operation under way has met: slot + 1, 0 none; and its generation. */
struct suspect {
    uint32_t slot, generation;
};

struct handle {
    int fd;
    int lock_fd; /* bears our record locks; the only descriptor of its file here: closing any other would drop them */
    dev_t device;
    ino_t inode; /* of lock_fd */
    size_t size;
    uint64_t seed[2];
    uint64_t seal; /* the header's at attach, to tell later damage */
    char machine[sizeof((struct header *)0)->machine + 1];
    struct header *header;
    struct shard *shards;  /* REMOTE_SHARDS of them */
    struct tally *tallies; /* TALLIES and one more */
    struct slot *slots;
    struct area messages;
    struct area groups;
    struct private_page *private;
    uint32_t word;          /* our lock word, without the waiters bit */
    uint32_t own_slot;      /* of an observer: slot + 1 that its process has, 0 none: nobody can probe himself */
    struct suspect suspect; /* guarded by the segment lock */
    _Atomic uint64_t vain;  /* the last vain wait for the lock: its owner, and how often it had changed hands by then */
    /* a bit for each loan of ours that was not given back, because the lock could not be acquired */
    _Atomic uint32_t abandoned;
    _Atomic uint64_t leases;     /* how often this process has taken or renewed one */
    _Atomic uint64_t next_sweep; /* when a full area may be swept again, nanoseconds */
    /* a normal channel whose messages expire and that no process reads; empty: none was met */
    char unread[NAME_MAX_LENGTH + 1];
    _Atomic uint32_t repairs; /* rebuilds by this process because inconsistent data was met, and */
    _Atomic uint64_t lost;    /* what was lost in them: messages, and records of channels and groups */
    /* a rebuild has dropped all waiters; the next thread that releases the lock rings every loop */
    _Atomic bool wake_everybody;
};

static inline uint32_t slot_word(uint32_t slot, uint32_t generation) {
    return ((slot + 1u) << WORD_SLOT_SHIFT) | (generation << WORD_GENERATION_SHIFT);
}
