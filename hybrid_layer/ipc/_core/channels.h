/* Channels and their queues. The segment lock is held in all of these.
 *
 * A normal channel is a queue that any process may read; an inbox is the queue of one process, for all its
 * process-specific channels together. Both are `struct channel`, and each costs the same however many there are and
 * however long they get.
 */
#ifndef HYBRID_CHANNELS_H
#define HYBRID_CHANNELS_H

#include "handle.h"
#include "name.h"

/* What is pushed into a queue, and by which of the sender's rules. */
struct push {
    struct name channel; /* for an inbox up to and including "!" */
    struct name local;   /* what follows the "!" */
    const void *payload;
    size_t size;
    uint32_t capacity;
    uint64_t expiry_ns;
    uint32_t held; /* a filled chain (see holds.h) with local and payload in it, or 0 */
};

struct channel *channel_at(struct handle *handle, uint32_t reference);

/* The same for a reference that was found or made in this operation: never NULL, whatever somebody may have written to
 * the block's kind since. */
struct channel *channel_found(struct handle *handle, uint32_t reference);

/* The bucket in which a channel of that name belongs. */
uint32_t *channel_bucket(struct handle *handle, const char *name, size_t length);

/* OK, EMPTY (there is none) or DAMAGED. */
enum status channel_find(struct handle *handle, struct name name, uint32_t *reference);
enum status channel_find_or_create(struct handle *handle, struct name name, uint32_t *reference);

/* Frees a channel that nothing keeps in being. */
enum status channel_release(struct handle *handle, uint32_t reference);

/* Frees an inbox with its messages and memberships. */
enum status channel_remove_inbox(struct handle *handle, uint32_t reference);

/* The name in `buffer`, at least NAME_MAX_LENGTH bytes; its length, or 0 on damage. */
size_t channel_name(struct handle *handle, const struct channel *channel, char *buffer);

/* Appends; what becomes readable becomes so with its commit. OK, FULL, NO_MEMORY, GROW_MESSAGES, GONE, DAMAGED. */
enum status queue_push(struct handle *handle, const struct push *push, uint32_t *channel);

/* Whether the queue has room, after expired messages were dropped. OK, FULL or DAMAGED. */
enum status queue_make_room(struct handle *handle, struct channel *channel, uint32_t capacity, uint64_t now);

/* Drops expired messages from the front, at most `limit`. */
bool queue_purge(struct handle *handle, struct channel *channel, uint64_t now, uint32_t limit);

void queue_append(struct handle *handle, struct channel *channel, uint32_t reference);

/* Takes the oldest message off the queue without freeing it. */
bool queue_unlink_head(struct handle *handle, struct channel *channel);

/* Frees a message or entry that is in no queue. */
bool message_free(struct handle *handle, uint32_t reference);

/* Drops every message of the queue. */
bool queue_clear(struct handle *handle, struct channel *channel);

/* Chains of blocks with payload. */
enum status payload_new(struct handle *handle, const void *bytes, size_t size, uint32_t held, uint32_t *reference);
bool payload_release(struct handle *handle, uint32_t reference);

/* Drops expired messages of a few buckets, or of all: a channel that nobody reads may not keep its memory. */
enum status channels_sweep(struct handle *handle, uint32_t buckets);

/* How many messages nobody has read yet. Without the lock, for when the segment is given up. */
uint64_t channels_unread(struct handle *handle);

#endif
