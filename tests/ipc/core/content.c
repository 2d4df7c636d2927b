#include "content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "flushes.h"
#include "groups.h"
#include "memberships.h"
#include "shards.h"

#define WORDS 100
#define WORD 500
#define ITEMS 50

struct words {
    char text[WORDS][WORD];
    uint32_t count;
};

static int compare(const void *one, const void *other) { return strcmp(one, other); }

static void add(char *word, const char *text) {
    MUST(strlen(word) + strlen(text) < WORD);
    strcat(word, text);
}

static uint32_t payload_id(struct handle *handle, uint32_t block, size_t data, size_t offset, size_t size) {
    static char bytes[100 * KIB];
    uint32_t id;
    MUST(size <= sizeof bytes && data_read(handle, &handle->messages, block, data, offset, bytes, size));
    MUST(is_payload(bytes, size, &id));
    return id;
}

static void add_locals(char *word, const char *names, uint32_t number) {
    static char sorted[ITEMS][NAME_MAX_LENGTH + 1];
    MUST(number <= ITEMS);
    for (uint32_t i = 0; i < number; i++) {
        size_t length = (unsigned char)*names;
        MUST(length <= NAME_MAX_LENGTH);
        memcpy(sorted[i], names + 1, length);
        sorted[i][length] = '\0';
        names += 1 + length;
    }
    qsort(sorted, number, sizeof sorted[0], compare);
    for (uint32_t i = 0; i < number; i++) {
        add(word, i == 0 ? ">" : "+");
        add(word, sorted[i]);
    }
}

static void add_message(struct handle *handle, const struct channel *channel, uint32_t reference, char *word) {
    char names[ITEMS * (NAME_MAX_LENGTH + 1)], number[20];
    struct message *message = block_raw(handle, &handle->messages, reference);
    uint32_t id, locals = 1;
    if (message->kind == KIND_MESSAGE) {
        size_t data = offsetof(struct message, data);
        id = payload_id(handle, reference, data, message->local_length, message->size);
        names[0] = (char)message->local_length;
        MUST(data_read(handle, &handle->messages, reference, data, 0, names + 1, message->local_length));
    } else {
        struct entry *entry = (struct entry *)message;
        struct payload *payload = block_at(handle, &handle->messages, entry->payload, KIND_PAYLOAD);
        size_t used;
        MUST(payload != NULL);
        id = payload_id(handle, entry->payload, offsetof(struct payload, data), 0, payload->size);
        if (channel->owner != 0)
            MUST(group_recipients(handle, entry, names, sizeof names, &used, &locals) == OK);
    }
    snprintf(number, sizeof number, "%u", id);
    add(word, word[strlen(word) - 1] == '=' ? "" : ",");
    add(word, number);
    if (channel->owner != 0)
        add_locals(word, names, locals);
}

static void add_queues(struct handle *handle, struct words *words, uint64_t now) {
    for (uint32_t bucket = 0; bucket <= handle->messages.bucket_mask; bucket++)
        for (uint32_t at = handle->messages.buckets[bucket]; at != 0;) {
            struct channel *channel = channel_at(handle, at);
            MUST(channel != NULL && words->count < WORDS);
            char *word = words->text[words->count];
            word[channel_name(handle, channel, word)] = '\0';
            add(word, "=");
            for (uint32_t reference = channel->head; reference != 0;) {
                struct message *message = block_raw(handle, &handle->messages, reference);
                if (message->deadline > now)
                    add_message(handle, channel, reference, word);
                reference = message->next;
            }
            if (channel->owner != 0 || word[strlen(word) - 1] != '=')
                words->count++;
            at = channel->bucket_next;
        }
}

static void add_members(struct handle *handle, struct words *words, uint64_t now) {
    for (uint32_t bucket = 0; bucket <= handle->groups.bucket_mask; bucket++)
        for (uint32_t at = handle->groups.buckets[bucket]; at != 0;) {
            struct group *record = record_at(handle, at);
            struct member *member = (struct member *)record;
            MUST(record != NULL && words->count < WORDS);
            if (record->kind == KIND_MEMBER && member->left == 0 && member->deadline > now) {
                struct pair *pair = pair_at(handle, member->pair);
                struct group *group = pair != NULL ? group_at(handle, pair->group) : NULL;
                struct channel *target = pair != NULL ? channel_at(handle, pair->target) : NULL;
                MUST(group != NULL && target != NULL);
                char *word = words->text[words->count++], local[NAME_MAX_LENGTH + 1], name[NAME_MAX_LENGTH + 1];
                MUST(data_read(handle, &handle->groups, pair->group, offsetof(struct group, name), 0, word,
                               group->name_length));
                word[group->name_length] = '\0';
                name[channel_name(handle, target, name)] = '\0';
                MUST(data_read(handle, &handle->groups, at, offsetof(struct member, name), 0, local,
                               member->name_length));
                local[member->name_length] = '\0';
                add(word, ":");
                add(word, name);
                add(word, local);
            }
            at = record->bucket_next;
        }
}

/* What is known of a server: position, turn, epoch, registration, forgotten. */
static void add_shards(struct handle *handle, struct words *words) {
    for (uint32_t number = 0; number < REMOTE_SHARDS; number++) {
        const struct shard *shard = &handle->shards[number];
        struct position position;
        uint32_t incarnation, flushes;
        bool is_known = position_read(shard, &position);
        MUST(words->count + 5 <= WORDS);
        shard_flushes(shard, &incarnation, &flushes);
        if (is_known)
            snprintf(words->text[words->count++], WORD, "#%u:%llu.%llu", number, (unsigned long long)position.ms,
                     (unsigned long long)position.sequence);
        if (is_known)
            snprintf(words->text[words->count++], WORD, "#%ut%llu", number, (unsigned long long)shard->turn);
        if (shard_epoch(shard) != 0)
            snprintf(words->text[words->count++], WORD, "#%ue%u.%u", number, incarnation, flushes);
        if (shard->registration != 0)
            snprintf(words->text[words->count++], WORD, "#%ur%llu", number, (unsigned long long)shard->registration);
        if (shard->forgotten != 0)
            snprintf(words->text[words->count++], WORD, "#%uf%llu", number, (unsigned long long)shard->forgotten);
    }
}

static void add_records(struct handle *handle, struct words *words, uint64_t now) {
    for (uint32_t bucket = 0; bucket <= handle->groups.bucket_mask; bucket++)
        for (uint32_t at = handle->groups.buckets[bucket]; at != 0;) {
            struct group *group = record_at(handle, at);
            char number[24];
            MUST(group != NULL && words->count < WORDS);
            if (group->kind == KIND_GROUP && record_lasts(group, now)) {
                char *word = words->text[words->count++];
                MUST(data_read(handle, &handle->groups, at, offsetof(struct group, name), 0, word, group->name_length));
                word[group->name_length] = '\0';
                snprintf(number, sizeof number, "@%llu", (unsigned long long)group->t);
                add(word, number);
            }
            at = group->bucket_next;
        }
}

static void join_words(struct words *words, char text[CONTENT]) {
    size_t length = 0;
    qsort(words->text, words->count, sizeof words->text[0], compare);
    text[0] = '\0';
    for (uint32_t i = 0; i < words->count; i++)
        length += (size_t)snprintf(text + length, CONTENT - length, i == 0 ? "%s" : " %s", words->text[i]);
    MUST(length < CONTENT);
}

void content_read(struct handle *handle, char text[CONTENT]) {
    static struct words words;
    uint64_t now = now_ns();
    words.count = 0;
    add_queues(handle, &words, now);
    add_members(handle, &words, now);
    add_shards(handle, &words);
    add_records(handle, &words, now);
    join_words(&words, text);
}

static void split(const char *text, struct words *words, char separator) {
    words->count = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, (char[]){separator, '\0'});
        MUST(words->count < WORDS && length < WORD);
        memcpy(words->text[words->count], text, length);
        words->text[words->count++][length] = '\0';
        text += length + (text[length] != '\0');
    }
}

void content_without(char text[CONTENT], const char *part) {
    static struct words words;
    uint32_t kept = 0;
    split(text, &words, ' ');
    for (uint32_t i = 0; i < words.count; i++)
        if (strstr(words.text[i], part) == NULL)
            memmove(words.text[kept++], words.text[i], WORD);
    words.count = kept;
    join_words(&words, text);
}

static bool has(const struct words *words, const char *word) {
    for (uint32_t i = 0; i < words->count; i++)
        if (strcmp(words->text[i], word) == 0)
            return true;
    return false;
}

/* The items of the queue that is called as `word` is, up to and including "=". */
static void items_of(const char *text, const char *word, struct words *items) {
    static struct words queues;
    size_t length = strcspn(word, "=") + 1;
    split(text, &queues, ' ');
    items->count = 0;
    for (uint32_t i = 0; i < queues.count; i++)
        if (strncmp(queues.text[i], word, length) == 0)
            split(queues.text[i] + length, items, ',');
}

/* Whether `part` is `whole` with some left out. */
static bool is_part(const struct words *part, const struct words *whole) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < whole->count; i++)
        if (at < part->count && strcmp(part->text[at], whole->text[i]) == 0)
            at++;
    return at == part->count;
}

/* A queue on its way: messages are taken from its front, or added at its end. */
static bool queue_is_between(const char *before, const char *after, const char *text, const char *word) {
    static struct words old, new, all, seen;
    items_of(before, word, &old);
    items_of(after, word, &new);
    items_of(text, word, &seen);
    all = old;
    for (uint32_t i = 0; i < new.count; i++)
        if (!has(&old, new.text[i]))
            memcpy(all.text[all.count++], new.text[i], WORD);
    for (uint32_t i = 0; i < old.count; i++) /* what stays in it is always there */
        if (has(&new, old.text[i]) && !has(&seen, old.text[i]))
            return false;
    return is_part(&seen, &all);
}

bool content_is_between(const char *before, const char *after, const char *text) {
    static struct words sets[3];
    const char *texts[3] = {before, after, text};
    for (uint32_t i = 0; i < 3; i++)
        split(texts[i], &sets[i], ' ');
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t j = 0; j < sets[i].count; j++) {
            const char *word = sets[i].text[j];
            if (strchr(word, '=') != NULL) {
                if (!queue_is_between(before, after, text, word))
                    return false;
                continue;
            }
            bool old = has(&sets[0], word), new = has(&sets[1], word), now = has(&sets[2], word);
            if ((old && new && !now) || (!old && !new && now))
                return false;
        }
    return true;
}
