/* SPDX-License-Identifier: BSD-3-Clause */
/* What lies in the shared segment, byte by byte.
 *
 *     header | shards | tallies | slots | message buckets | group buckets | message blocks ... | group blocks ...
 *     <------------------ reserved at creation ----------------> <-- reserved by extents, as needed -->
 *
 * Each field is either AUTHORITY (nothing else tells its value) or DERIVED (recomputed from the authorities by
 * recovery.c). Every operation makes its change valid by one store to an authority, its commit; whatever a process that
 * dies leaves between commits is repaired from the authorities by the next owner of the lock. All fields are guarded by
 * the segment lock unless a comment says otherwise.
 *
 * References are block numbers, 0 is none. Nothing read from here is trusted: a reference is used only through
 * blocks.h, which checks its range and the kind of the block.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_VERSION 7u
#define REMOTE_SHARDS 64u /* servers, or parts of a cluster, that a machine knows */
#define LAYOUT_MAGIC "hybrid\x01\n"

#define PAGE 4096u
#define LARGEST_PAGE 65536u /* of any system; some tell an object's size in whole pages only */
#define SLOTS 1024u
#define LOOPS 8u /* event loops of one process that can be rung; further ones poll */
#define LOANS 8u
#define NAME_MAX_LENGTH 99u
#define PREFIX_MAX 50u
#define PROJECT_MAX 199u
#define EXTENT (256u * 1024u)
#define LARGE (64u * 1024u) /* payloads above this many bytes are copied outside the lock */

#define BLOCK 64u /* bytes of a block, in both areas */

/* Neither a small number nor all zeros or ones: one damaged byte must not send all processes away. */
#define RETIRED_MARK 0x9e3c5a71u

/* The lock word: bit 0 a waiter may sleep on it, bits 1-11 slot + 1 of the owner, bits 12-31 its generation. */
#define WORD_WAITERS 1u
#define WORD_SLOT_SHIFT 1u
#define WORD_SLOT_MASK 0x7ffu
#define WORD_GENERATION_SHIFT 12u
#define GENERATION_MASK 0xfffffu

enum counter {
    COUNT_SENT,
    COUNT_RECEIVED,
    COUNT_FULL,
    COUNT_EXPIRED,
    COUNT_DEAD,
    COUNT_SLOW,
    COUNT_MEMORY,
    COUNT_DAMAGED,
    COUNT_UNDECODABLE,
    COUNT_ERRORS,
    COUNT_REPAIRS, /* rebuilds because inconsistent data was met */
    COUNT_REAPED,  /* processes that were found dead */
    COUNTERS
};

/* Whose counters these are: the machine's own, or what its processes have counted on servers. */
enum half { HALF_LOCAL, HALF_REMOTE, HALVES };

#define TALLIES 256u        /* normal channels that are counted by name */
#define TALLY_OTHER TALLIES /* the place of all others together */
#define WAITS 12u           /* classes of waiting times, each four times as long as the one before */

/* The books of one area. */
struct area_books {
    uint32_t free_head;        /* DERIVED: chain of blocks that were used and given back */
    uint32_t free_count;       /* DERIVED */
    uint32_t fresh;            /* AUTHORITY: blocks from here on were never used; grows before such a block is linked */
    uint32_t fresh_check;      /* ~fresh: too low a number would hand out blocks that are in use */
    _Atomic uint32_t reserved; /* AUTHORITY: blocks below this number are backed by memory */
    uint32_t pad;
};

struct header {
    char magic[8];
    uint32_t layout_version;
    uint32_t slots;
    uint64_t size;
    uint64_t message_bytes;
    uint64_t group_bytes;
    uint64_t lock_inode; /* of the file that bears the record locks of its processes */
    uint64_t hash_seed[2];
    char prefix[PREFIX_MAX + 2];
    char project[PROJECT_MAX + 1]; /* whose site this is, for a warning to people */
    char machine[16];              /* random id of this machine, as the remote layer names it */
    uint64_t seal;                 /* of all that is above but the magic, which never changes */

    /* Written by waiters without the lock, hence on a cache line of their own. */
    _Alignas(64) _Atomic uint32_t lock_word; /* AUTHORITY */
    _Atomic uint32_t progress;               /* moved by every acquisition; lets a waiter tell slow from stopped */
    _Atomic uint32_t dirty;   /* AUTHORITY: non-zero while the lock is held, so also after a death inside */
    _Atomic uint32_t damaged; /* AUTHORITY: an operation met inconsistent data; rebuild */
    /* AUTHORITY: RETIRED_MARK: its processes have moved to another segment. Read without lock */
    _Atomic uint32_t retired;
    _Atomic uint32_t rebuilds; /* waiters are forgotten by a rebuild; processes that see this move register anew */

    _Alignas(64) _Atomic uint64_t epoch; /* AUTHORITY: moved by every flush. Read without the lock; see epochs.h */
    uint64_t sequence;                   /* AUTHORITY: number of the last group send */
    /* AUTHORITY: nanoseconds; before, no entry of a stream is taken in: the processes register here first */
    uint64_t readable_at;
    uint32_t followed;     /* AUTHORITY: number of the servers' flushes that this machine has followed */
    uint32_t inboxes;      /* DERIVED: how many there are */
    uint32_t sweep_cursor; /* DERIVED: next message bucket to look for expired messages in */
    uint32_t group_cursor; /* DERIVED: the same for expired memberships */
    uint32_t probe_cursor; /* DERIVED: next slot to probe */
    uint32_t scrub_cursor; /* DERIVED: last block of the group area that was looked at for damage */
    uint32_t slots_used;   /* DERIVED: slots from here on were never published */
    uint64_t next_look;    /* DERIVED: when the next look for the dead and the expired is due, nanoseconds */
    struct area_books messages;
    struct area_books groups;
    /* What follows is for people only. */
    _Atomic uint64_t counters[HALVES][COUNTERS]; /* added to without the lock */
    /* How many messages lay unread for less than 1, 4, 16 ... ms, and for longer; and for how long all together, in
     * milliseconds. Read without the lock. */
    _Atomic uint64_t waits[WAITS];
    _Atomic uint64_t waited;
};

/* What was counted of one normal channel, whether it exists at the moment or not: channels vanish when they are empty.
 * Lies at the first free place from that of its name's hash on, for ever. For people only; the numbers are read without
 * the lock. */
struct tally {
    uint32_t name_length;      /* AUTHORITY: 0 the place is free */
    _Atomic uint32_t capacity; /* that of its last sender */
    char name[104];            /* AUTHORITY */
    _Atomic uint64_t sent, received, full;
};

/* The id of an entry in a machine's stream. A server whose clock was set back makes the second number grow without
 * bound. */
struct position {
    uint64_t ms, sequence;
};

/* What the machine knows of one server. tests/models/stream.py and tests/models/registration.py say what for. */
struct shard {
    struct position positions[2]; /* AUTHORITY: one of them is the last entry that was taken in */
    /* AUTHORITY: bits 0-1 which one, 1 or 2; the others are a check of it, as nothing else would tell of damage. Any
     * other value: the position is not known. A position moves by one store to this. */
    uint32_t at;
    uint32_t flushes_check; /* DERIVED: of `flushes`. If it is wrong, nothing is known of them */
    uint64_t turn;          /* AUTHORITY: another number each time that the position is set anew */
    uint64_t run;           /* AUTHORITY: of the server that the position belongs to */
    /* AUTHORITY: bits 0-19 how often the server was flushed, 20-38 how many flushes of all servers that makes, 39 is
     * set, 40-63 the incarnation of the server's data. 0: nothing is known of them */
    uint64_t flushes;
    _Alignas(64) uint64_t registration; /* AUTHORITY: what the machine is registered under there, 0 not at all */
    uint64_t walked;                    /* AUTHORITY: the registration for which all groups have been registered */
    uint64_t forgotten;                 /* AUTHORITY: the highest registration of a group that was ever forgotten */
    /* Changed without the lock, hence on a cache line of their own. */
    /* AUTHORITY: who reads from the server: bits 0-10 slot + 1, 11-30 its generation, 31-63 a count of its own; 0
     * nobody */
    _Alignas(64) _Atomic uint64_t lease;
    _Atomic uint32_t outages; /* AUTHORITY: how often it was lost and came back: odd while it is lost */
};

/* One event loop that waits. state: bits 0-1 the loop state, 2-31 the number of its sleep, 32-63 when it was rung, in
 * milliseconds. Changed under the lock, but for ASLEEP -> RUNG, which a ringer stores by compare-and-swap: the sleep
 * number in the word makes a late one fail. */
enum { LOOP_AWAKE = 0, LOOP_ASLEEP = 1, LOOP_RUNG = 2 };
#define STATE_OF(word) ((uint32_t)((word) & 3u))
#define SLEEP_OF(word) ((uint32_t)(((word) >> 2) & 0x3fffffffu))
#define RUNG_AT(word) ((uint32_t)((word) >> 32))
#define STATE_WORD(state, sleep, ms) \
    ((uint64_t)(state) | ((uint64_t)((sleep) & 0x3fffffffu) << 2) | ((uint64_t)(ms) << 32))

struct loop_slot {
    _Atomic uint64_t state; /* AUTHORITY */
    uint32_t in_use;        /* AUTHORITY */
    uint32_t waiters;       /* DERIVED: all waiters of this loop */
    uint32_t ready;         /* DERIVED: those whose channel got something, first to last */
    uint32_t ready_tail;    /* DERIVED */
};

/* A chain of message blocks that one process fills or reads outside the lock. Freed when the process ends. */
struct loan {
    uint32_t block; /* AUTHORITY: first block; 0 the loan is free */
};

struct slot {
    _Atomic uint32_t generation; /* AUTHORITY: stored by the process that holds the slot's record lock, before the slot
                                    is published */
    uint32_t published;          /* AUTHORITY: generation + 1 of the process in this slot, 0 there is none */
    uint32_t pad;
    uint32_t inboxes; /* DERIVED: its inbox channels, linked by channel.owned_next */
    struct loan loans[LOANS];
    struct loop_slot loops[LOOPS];
};

/* Every block begins with this. */
struct block {
    uint32_t chain; /* next block of the same record, or of the free chain */
    uint8_t kind;
};

enum kind {
    KIND_FREE = 0,
    /* message area */
    KIND_CHANNEL,
    KIND_MESSAGE,
    KIND_ENTRY,
    KIND_PAYLOAD,
    KIND_WAITER,
    /* group area */
    KIND_GROUP,
    KIND_PAIR,
    KIND_MEMBER,
    /* both: a further block of a long record */
    KIND_TAIL
};

/* A normal channel, or the inbox of a process (name up to and including "!"). Exists while it holds messages, is waited
 * on, is a target of a group, or is an inbox. Reached from its bucket: AUTHORITY. */
struct channel {
    uint32_t chain; /* AUTHORITY: the rest of a long name */
    uint8_t kind;
    uint8_t name_length;       /* AUTHORITY */
    uint8_t unordered;         /* DERIVED: deadlines do not rise along the queue (senders differ in expiry) */
    uint8_t was_read;          /* for people: a process has looked for messages here */
    uint32_t bucket_next;      /* AUTHORITY */
    uint32_t head;             /* AUTHORITY: oldest message */
    uint32_t tail;             /* DERIVED */
    uint32_t count;            /* DERIVED */
    uint32_t waiters;          /* DERIVED: oldest waiter */
    uint32_t waiters_tail;     /* DERIVED */
    uint32_t pairs;            /* DERIVED: memberships that point here */
    uint32_t owner;            /* AUTHORITY: slot + 1 of an inbox's process, 0 for a normal channel */
    uint32_t owner_generation; /* AUTHORITY */
    union {
        uint32_t owned_next; /* DERIVED: of an inbox: the next one of its process */
        uint32_t tally;      /* DERIVED: of a normal channel: 1 + the place of its tally, 0 not looked for yet */
    };
    char name[BLOCK - 48];
};

/* One message with its payload. For an inbox the data begins with the local part of the channel's name. */
struct message {
    uint32_t chain; /* AUTHORITY */
    uint8_t kind;
    uint8_t local_length; /* AUTHORITY */
    uint16_t pad;
    uint32_t next;     /* AUTHORITY: the next younger message of the queue */
    uint32_t tail;     /* DERIVED: last block of the chain, so that freeing costs the same for any size */
    uint32_t size;     /* AUTHORITY: payload bytes, without the local part */
    uint32_t sent_ms;  /* for people: when it was stored here, milliseconds of CLOCK_MONOTONIC modulo 2^32 */
    uint64_t deadline; /* AUTHORITY: nanoseconds of CLOCK_MONOTONIC */
    char data[BLOCK - 32];
};

/* One group message in one queue; the payload is shared by all of them. */
struct entry {
    uint32_t chain; /* always 0 */
    uint8_t kind;
    uint8_t pad[3];
    uint32_t next;     /* AUTHORITY, at the same place as in struct message */
    uint32_t payload;  /* AUTHORITY */
    uint32_t pair;     /* AUTHORITY: whose members get it; 0 in the queue of a normal channel */
    uint32_t sent_ms;  /* at the same place as in struct message */
    uint64_t deadline; /* AUTHORITY, at the same place as in struct message */
    uint64_t sequence; /* AUTHORITY */
    uint64_t sent;     /* AUTHORITY: nanoseconds; memberships that had expired by then do not get it */
};

struct payload {
    uint32_t chain; /* AUTHORITY */
    uint8_t kind;
    uint8_t pad[3];
    uint32_t references; /* DERIVED */
    uint32_t tail;       /* DERIVED */
    uint32_t size;       /* AUTHORITY */
    uint32_t pad2;
    char data[BLOCK - 24];
};

/* One event loop's interest in one channel. All DERIVED: after a rebuild each process registers anew. */
struct waiter {
    uint32_t chain;
    uint8_t kind;
    uint8_t is_ready; /* linked in its loop's ready list */
    uint16_t pad;
    uint32_t channel;
    uint32_t slot;
    uint32_t generation;
    uint32_t loop;
    uint32_t next, previous;           /* of the channel */
    uint32_t loop_next, loop_previous; /* of the loop */
    uint32_t ready_next;
};

/* Group area. Each record is reached from a bucket: AUTHORITY. The lists of pairs and members are DERIVED from the
 * fields that name their owner.
 *
 * A group's record says that the server at the group's home knows of its members here. A group with a record stays when
 * its last member goes, or each member that comes and goes would cost a command. */
struct group {
    uint32_t chain; /* AUTHORITY: the rest of a long name */
    uint8_t kind;
    uint8_t name_length;   /* AUTHORITY */
    uint16_t check;        /* DERIVED: of the record. Damaged, it must not be believed */
    uint32_t bucket_next;  /* AUTHORITY */
    uint32_t pairs;        /* DERIVED */
    uint64_t t;            /* AUTHORITY: the record: the number of the group's registration; 0 there is none, */
    uint64_t until;        /* AUTHORITY: when it ends, nanoseconds of CLOCK_MONOTONIC, */
    uint32_t registration; /* AUTHORITY: that of the machine under which it was made, its low bits, */
    uint32_t idle_since;   /* DERIVED: when the last pair went, milliseconds modulo 2^32 */
    uint8_t shard;         /* AUTHORITY: and at which server it was made */
    char name[BLOCK - 41];
};

/* One group in one queue: what a group send costs is one entry for each of these. */
struct pair {
    uint32_t chain; /* always 0 */
    uint8_t kind;
    uint8_t pad[3];
    uint32_t bucket_next; /* AUTHORITY */
    uint32_t group;       /* AUTHORITY */
    uint32_t target;      /* AUTHORITY: channel block in the message area, which this pair keeps in being */
    uint32_t members;     /* DERIVED */
    uint32_t live;        /* DERIVED: members that have not left */
    uint32_t gone;        /* DERIVED: members that have left, and wait for entries before their leaving to be drained */
    uint32_t pending;     /* DERIVED: entries in the target's queue that name this pair */
    uint32_t group_next, group_previous;   /* DERIVED */
    uint32_t target_next, target_previous; /* DERIVED */
    uint32_t pad2;
    uint64_t last_deadline; /* DERIVED: no member lives longer */
};

/* One channel's membership. Gets the messages with joined <= sequence < left that were sent before its deadline. */
struct member {
    uint32_t chain; /* AUTHORITY: the rest of a long local name */
    uint8_t kind;
    uint8_t name_length; /* AUTHORITY */
    /* DERIVED: of the three numbers below; 0 while they change. Nothing else would tell of damage to them */
    uint16_t check;
    uint32_t bucket_next;    /* AUTHORITY */
    uint32_t pair;           /* AUTHORITY */
    uint32_t next, previous; /* DERIVED */
    uint64_t joined;         /* AUTHORITY */
    uint64_t left;           /* AUTHORITY: 0 it has not left */
    uint64_t deadline;       /* AUTHORITY: nanoseconds of CLOCK_MONOTONIC */
    char name[BLOCK - 48];   /* AUTHORITY: what follows the "!" */
};

/* A further block of a long record. */
struct tail {
    uint32_t chain;
    uint8_t kind;
    char data[BLOCK - 5];
};

_Static_assert(sizeof(struct header) <= PAGE, "the header fits its page");
_Static_assert(sizeof(struct shard) == 3 * 64, "shard");
_Static_assert(sizeof(struct tally) == 136, "tally");
_Static_assert(sizeof(struct channel) == BLOCK, "channel");
_Static_assert(sizeof(struct message) == BLOCK, "message");
_Static_assert(sizeof(struct entry) <= BLOCK, "entry");
_Static_assert(sizeof(struct payload) == BLOCK, "payload");
_Static_assert(sizeof(struct waiter) <= BLOCK, "waiter");
_Static_assert(sizeof(struct group) == BLOCK, "group");
_Static_assert(sizeof(struct pair) <= BLOCK, "pair");
_Static_assert(sizeof(struct member) == BLOCK, "member");
_Static_assert(sizeof(struct tail) == BLOCK, "tail");

/* Data runs on from its field to the end of the block, so nothing may follow the field. */
#define ENDS_WITH(type, field) (offsetof(struct type, field) + sizeof((struct type *)0)->field == sizeof(struct type))
_Static_assert(ENDS_WITH(channel, name) && ENDS_WITH(message, data) && ENDS_WITH(payload, data), "data comes last");
_Static_assert(ENDS_WITH(group, name) && ENDS_WITH(member, name), "data comes last");
