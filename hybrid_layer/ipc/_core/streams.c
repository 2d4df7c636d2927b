/* SPDX-License-Identifier: BSD-3-Clause */
/* Takes the entries of the machine's streams in, and the answers to renewals. */
#include "streams.h"

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "flushes.h"
#include "loans.h"
#include "queues.h"
#include "registrations.h"
#include "shards.h"
#include "waking.h"

enum status stream_look(struct handle *handle, uint32_t number, struct view *view) {
    const struct shard *shard = shard_at(handle, number);
    *view = (struct view){.inboxes = handle->header->inboxes};
    if (shard == NULL)
        return OK;
    view->is_known = position_read(shard, &view->position);
    view->turn = shard->turn;
    view->run = shard->run;
    shard_flushes(shard, &view->incarnation, &view->flushes);
    view->registration = shard->registration;
    view->walked = shard->walked;
    view->forgotten = shard->forgotten;
    return OK;
}

/* Taking entries in. The position moves when all that the entry needs is there, and before anything is done that could
 * be done twice. So who dies in between loses that one entry. */

/* Stores the message in no queue yet. OK, FULL, GONE (there is no such inbox), NO_MEMORY, GROW_MESSAGES, DAMAGED. */
static enum status prepare_direct(struct handle *handle, const struct push *push, uint32_t *channel,
                                  uint32_t *message) {
    uint64_t now = now_ns();
    if (!names_inbox(push->channel)) /* nothing that comes from a server makes a queue */
        return GONE;
    enum status status = channel_find(handle, push->channel, channel);
    if (status != OK)
        return status == EMPTY ? GONE : status;
    status = queue_make_room(handle, block_raw(handle, &handle->messages, *channel), push->capacity, now);
    return status == OK ? message_new(handle, push, now, message) : status;
}

static bool never_fits(struct handle *handle, const struct push *push) {
    return blocks_for(sizeof((struct message *)0)->data, push->local.length + push->size) >= handle->messages.blocks;
}

static void drop_for_memory(struct handle *handle, struct arrival *arrival) {
    count(handle, COUNT_MEMORY, 1);
    arrival->is_out_of_memory = true;
}

static enum status put_direct(struct handle *handle, struct shard *shard, struct arrival *arrival,
                              struct wakeups *wakeups) {
    struct push push = arrival->push;
    uint32_t reference, message;
    if (!loan_block(handle, arrival->push.loan, &push.loan))
        return DAMAGED;
    enum status status = prepare_direct(handle, &push, &reference, &message);
    bool is_dropped = status == FULL || status == GONE || (status == GROW_MESSAGES && never_fits(handle, &push));
    if (status != OK && !is_dropped)
        return status;
    position_move(shard, arrival->id);
    if (is_dropped) {
        arrival->dropped = status == FULL;
        if (status == GROW_MESSAGES)
            drop_for_memory(handle, arrival);
        else
            count(handle, status == FULL ? COUNT_FULL : COUNT_DEAD, 1);
        return OK;
    }
    queue_append(handle, block_raw(handle, &handle->messages, reference), message);
    loan_forget(handle, arrival->push.loan);
    arrival->has_taken_loan = true;
    return waiters_wake(handle, reference, wakeups);
}

/* The server is told that the group has no member here. From this moment on, no answer that came before counts. */
static enum status forget_group(struct handle *handle, struct shard *shard, struct arrival *arrival) {
    bool is_done;
    if (shard->forgotten < arrival->t)
        shard->forgotten = arrival->t;
    arrival->outcome = PUT_FORGET;
    return registration_forget(handle, arrival->send.group, arrival->shard, arrival->t, &is_done);
}

static enum status put_to_group(struct handle *handle, struct shard *shard, struct arrival *arrival,
                                struct wakeups *wakeups) {
    struct group_send send = arrival->send;
    if (!loan_block(handle, arrival->send.loan, &send.loan))
        return DAMAGED;
    send.is_forwarded = true;
    enum status status = group_send_prepare(handle, &send);
    bool is_dropped = status == NO_MEMORY && send.never_fits;
    if (status != OK && !is_dropped)
        return status;
    position_move(shard, arrival->id);
    if (is_dropped) {
        drop_for_memory(handle, arrival);
        return OK;
    }
    status = group_send_perform(handle, &send, wakeups);
    if (status != OK)
        return status;
    loan_forget(handle, arrival->send.loan);
    arrival->has_taken_loan = true;
    arrival->dropped = send.dropped;
    return send.served == 0 && arrival->t != 0 ? forget_group(handle, shard, arrival) : OK;
}

static enum status put_note(struct handle *handle, struct shard *shard, struct arrival *arrival) {
    struct joining *joining = &arrival->joining;
    enum status status = OK;
    if (!names_inbox(joining->target)) { /* as in prepare_direct */
        position_move(shard, arrival->id);
    } else if (arrival->kind == ARRIVAL_ADD) { /* which may be done twice */
        status = group_add(handle, joining);
        if (status == OK)
            position_move(shard, arrival->id);
    } else {
        position_move(shard, arrival->id);
        status = group_discard(handle, joining->group, joining->target, joining->local);
    }
    return status;
}

static bool is_readable(struct handle *handle) {
    uint64_t now = now_ns(), at = handle->header->readable_at;
    return at <= now || at - now > PAUSE_NS; /* a stray write was there */
}

enum status stream_put(struct handle *handle, struct arrival *arrival, struct wakeups *wakeups) {
    struct shard *shard = shard_at(handle, arrival->shard);
    struct position position;
    bool is_other, is_news;
    arrival->dropped = 0;
    arrival->is_out_of_memory = arrival->has_taken_loan = false;
    arrival->outcome = PUT_STALE;
    if (shard == NULL || shard->turn != arrival->turn || !position_read(shard, &position))
        return OK;
    int order = shard_compare_flushes(shard, arrival->incarnation, arrival->flushes, &is_other);
    if (is_other)
        return OK;
    arrival->outcome = PUT_SEEN;
    if (position_compare(arrival->id, position) <= 0)
        return OK;
    arrival->outcome = PUT_LATER;
    if (!is_readable(handle))
        return OK;
    arrival->outcome = PUT_DONE;
    if (order > 0 && shard_follow(handle, shard, arrival->incarnation, arrival->flushes, false, &is_news, NULL) != OK)
        return DAMAGED;
    if (order >= 0 && arrival->kind == ARRIVAL_DIRECT)
        return put_direct(handle, shard, arrival, wakeups);
    if (order >= 0 && arrival->kind == ARRIVAL_GROUP)
        return put_to_group(handle, shard, arrival, wakeups);
    if (order >= 0 && arrival->kind != ARRIVAL_NOTHING)
        return put_note(handle, shard, arrival);
    position_move(shard, arrival->id); /* what is from before a flush, too */
    return OK;
}

/* Renewals */

/* The turn comes first: from then on nothing counts that was read before. The run comes last: until then the next
 * renewal does it again. */
static void set_anew(struct shard *shard, struct position position) {
    shard->turn++;
    atomic_signal_fence(memory_order_seq_cst);
    position_move(shard, position);
}

enum status stream_renewed(struct handle *handle, uint32_t number, const struct view *view,
                           const struct answer *answer) {
    struct shard *shard = shard_at(handle, number);
    if (shard == NULL || shard->turn != view->turn)
        return OK;
    struct position position;
    bool is_known = position_read(shard, &position), is_other, is_news;
    bool is_asked_with = shard->registration == view->registration;
    (void)shard_compare_flushes(shard, answer->incarnation, answer->flushes, &is_other);
    bool is_other_server = is_other || answer->run != shard->run;
    bool has_lost_ids = is_known && view->is_known && position_compare(answer->last, view->position) < 0 &&
                        position_compare(position, view->position) == 0;
    if (!is_known)
        set_anew(shard, answer->last);
    else if (is_other_server)
        set_anew(shard, position_compare(answer->last, position) < 0 ? answer->last : position);
    else if (has_lost_ids)
        set_anew(shard, answer->last);
    /* Only another server may have fewer flushes. */
    if (shard_follow(handle, shard, answer->incarnation, answer->flushes, is_other_server, &is_news, NULL) != OK)
        return DAMAGED;
    if (is_asked_with) /* a registration from before a flush, or on another server, is none */
        shard->registration =
            (is_news || is_other_server) && answer->registration == view->registration ? 0 : answer->registration;
    atomic_signal_fence(memory_order_seq_cst);
    shard->run = answer->run;
    return OK;
}

enum status stream_walked(struct handle *handle, uint32_t number, uint64_t registration) {
    struct shard *shard = shard_at(handle, number);
    if (shard != NULL && shard->registration == registration)
        shard->walked = registration;
    return OK;
}

enum status stream_void(struct handle *handle, uint32_t number) {
    struct shard *shard = shard_at(handle, number);
    if (shard != NULL)
        shard->registration = 0;
    return OK;
}

enum status stream_meet_flush(struct handle *handle, uint32_t number, uint32_t incarnation, uint32_t flushes,
                              bool *has_flushed) {
    struct shard *shard = shard_at(handle, number);
    bool is_news;
    *has_flushed = false;
    return shard == NULL ? OK : shard_follow(handle, shard, incarnation, flushes, false, &is_news, has_flushed);
}
