/* SPDX-License-Identifier: BSD-3-Clause */
/* Looks at some records of groups in each housekeeping, for damage that no operation would meet. */
#include "scrub.h"

#include "blocks.h"
#include "channels.h"
#include "counters.h"
#include "memberships.h"

/* A record is found by its name or key. */
static bool is_in_its_bucket(struct handle *handle, uint32_t reference) {
    uint32_t *bucket = record_bucket(handle, reference);
    uint32_t at = bucket != NULL ? *bucket : 0;
    for (uint32_t steps = 0; at != 0 && at != reference; steps++) {
        struct group *other = record_at(handle, at);
        if (other == NULL || steps >= handle->groups.blocks)
            return false;
        at = other->bucket_next;
    }
    return at != 0;
}

/* A list of records of one kind: from where it is reached, and where in a record the number of the next one lies. That
 * of the previous one follows. */
struct list {
    const uint32_t *head; /* NULL: what the record belongs to is not there */
    uint8_t kind;
    size_t link;
};

static const uint32_t *link_of(struct handle *handle, const struct list *list, uint32_t reference, size_t number) {
    const char *record = block_at(handle, &handle->groups, reference, list->kind);
    return record != NULL ? (const uint32_t *)(const void *)(record + list->link) + number : NULL;
}

/* What comes before and after a record leads back to it. If that holds for all records, none is passed over. */
static bool is_in_its_list(struct handle *handle, uint32_t reference, struct list list) {
    uint32_t next = *link_of(handle, &list, reference, 0), previous = *link_of(handle, &list, reference, 1);
    const uint32_t *before = previous == 0 ? list.head : link_of(handle, &list, previous, 0);
    const uint32_t *after = next == 0 ? &reference : link_of(handle, &list, next, 1);
    return before != NULL && *before == reference && after != NULL && *after == reference;
}

static bool is_sound_pair(struct handle *handle, uint32_t reference, const struct pair *pair) {
    const struct group *group = group_at(handle, pair->group);
    const struct channel *target = channel_at(handle, pair->target);
    return is_in_its_list(
               handle, reference,
               (struct list){group != NULL ? &group->pairs : NULL, KIND_PAIR, offsetof(struct pair, group_next)}) &&
           is_in_its_list(
               handle, reference,
               (struct list){target != NULL ? &target->pairs : NULL, KIND_PAIR, offsetof(struct pair, target_next)});
}

static bool is_sound_member(struct handle *handle, uint32_t reference, const struct member *member) {
    const struct pair *pair = pair_at(handle, member->pair);
    return member_is_sound(member) && is_in_its_list(handle, reference,
                                                     (struct list){pair != NULL ? &pair->members : NULL, KIND_MEMBER,
                                                                   offsetof(struct member, next)});
}

static bool is_sound(struct handle *handle, uint32_t reference, const struct group *record) {
    if (!is_in_its_bucket(handle, reference))
        return false;
    if (record->kind == KIND_GROUP)
        return true; /* its pairs lead back to it */
    return record->kind == KIND_PAIR ? is_sound_pair(handle, reference, (const struct pair *)record)
                                     : is_sound_member(handle, reference, (const struct member *)record);
}

enum status scrub_groups(struct handle *handle, uint32_t blocks) {
    struct header *header = handle->header;
    uint32_t used = handle->groups.books->fresh; /* from here on, no block has ever been a record */
    uint32_t reference = header->scrub_cursor;
    for (uint32_t seen = 0; seen < blocks && seen + 1 < used; seen++) { /* block 0 is none */
        reference = reference + 1 < used ? reference + 1 : 1;
        const struct group *record = record_at(handle, reference);
        if (record != NULL && !is_sound(handle, reference, record)) {
            count(handle, COUNT_DAMAGED, 1);
            atomic_fetch_add(&handle->lost, 1);
            return DAMAGED;
        }
    }
    header->scrub_cursor = reference;
    return OK;
}
