/* SPDX-License-Identifier: BSD-3-Clause */
/* The machine's stream on each server: its entries get into the segment, once and in order. The segment lock is held in
 * all of these. tests/models/stream.py has the rules, and what happens without each of them. */
#pragma once

#include "groups.h"
#include "handle.h"
#include "messages.h"
#include "sending.h"
#include "wakeups.h"

/* What the machine knows of one server. */
struct view {
    struct position position;
    bool is_known; /* the position */
    uint64_t turn, run;
    uint32_t incarnation, flushes;
    uint64_t registration, walked, forgotten;
    uint32_t inboxes; /* of all processes of the machine */
};

/* A server's answer to a renewal. */
struct answer {
    uint64_t run, registration;
    struct position last; /* of the stream */
    uint32_t incarnation, flushes;
};

enum arrival_kind { ARRIVAL_DIRECT, ARRIVAL_GROUP, ARRIVAL_ADD, ARRIVAL_DISCARD, ARRIVAL_NOTHING };

/* In the order of `Taken` in machine.py. */
enum outcome {
    PUT_DONE,   /* or dropped and counted, or from before a flush */
    PUT_FORGET, /* the same, and the group has no member here */
    PUT_SEEN,   /* refused: taken in before */
    PUT_STALE,  /* refused: read with a view that is out of date */
    PUT_LATER   /* refused: it is too early */
};

/* An entry to be taken in, with what of the view it was read with decides that. */
struct arrival {
    uint32_t shard;
    uint64_t turn;
    struct position id;
    uint32_t incarnation, flushes;
    enum arrival_kind kind;
    struct push push;       /* ARRIVAL_DIRECT; its loan is one of ours, or NO_LOAN */
    struct group_send send; /* ARRIVAL_GROUP; as in push */
    uint64_t t;             /* ARRIVAL_GROUP: which registration of the group it was sent to, 0 unknown */
    struct joining joining; /* ARRIVAL_ADD, ARRIVAL_DISCARD */
    enum outcome outcome;   /* result */
    uint32_t dropped;       /* result: queues that were at capacity */
    bool is_out_of_memory;  /* result: it was dropped, as there will never be room for it */
    bool has_taken_loan;    /* result: the loan, if there was one, is none any more */
};

/* OK or DAMAGED. */
enum status stream_look(struct handle *handle, uint32_t shard, struct view *view);

/* Takes an entry in. OK with an outcome; NO_MEMORY, GROW_MESSAGES or GROW_GROUPS: nothing was done; or DAMAGED. */
enum status stream_put(struct handle *handle, struct arrival *arrival, struct wakeups *wakeups);

/* Takes over the answer to a renewal that was sent with `view`. OK or DAMAGED. */
enum status stream_renewed(struct handle *handle, uint32_t shard, const struct view *view, const struct answer *answer);

/* All groups were registered under this registration of the machine. OK. */
enum status stream_walked(struct handle *handle, uint32_t shard, uint64_t registration);

/* The server may have lost what it knew of the machine. OK. */
enum status stream_void(struct handle *handle, uint32_t shard);

/* Follows a flush of a server, of which was heard anywhere. OK or DAMAGED. */
enum status stream_meet_flush(struct handle *handle, uint32_t shard, uint32_t incarnation, uint32_t flushes,
                              bool *has_flushed);
