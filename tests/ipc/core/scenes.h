/* The operations that kills.c kills a process in, each with the situation that it meets. */
#pragma once

#include "content.h"

#define SMALL 20
#define MEDIUM 400
#define BIG (LARGE + 100)

#define LONG_NAME "a.name.that.is.longer.than.one.block.of.the.message.area.can.hold-and_a_bit_more_than_that.oh"
#define LONG_GROUP "another.group.whose.name.takes.two.blocks.of.the.group.area.indeed"
#define LONG_LOCAL "a.local.name.that.does.not.fit.into.one.block"

/* The survivor has the inbox "s.1!" and the loop 0, asleep, which waits for "a" and the inbox. */
struct scene {
    const char *name;
    const char *before, *after;          /* see content.h; no `after`: as before; none: whatever comes of it in peace */
    void (*set)(struct handle *);        /* done by the survivor, */
    void (*ready)(struct handle *);      /* then by the victim, both in peace; */
    enum status (*act)(struct handle *); /* in this the victim is killed */
    enum status result;
    uint32_t at_least; /* changes of shared memory, so that the test cannot test nothing */
    bool in_steps;     /* has several commits: a death may leave it half done */
    bool attaches;     /* the victim only maps the segment */
    const char *first; /* a word of `after` without which everything is as before */
};

extern const struct scene message_scenes[], group_scenes[], waiting_scenes[], life_scenes[], chance_scenes[],
    stream_scenes[], wrong_scenes[];

/* Which of them is played by the scene "chance". */
void chance_situation(uint64_t number);

/* What scenes are made of. Each fails the test if it does not go well. */
void put(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size, uint64_t expiry);
void put_for_all(struct handle *handle, const char *group, uint32_t id, size_t size, uint64_t expiry);
void take(struct handle *handle, const char *channel);
void open_inbox(struct handle *handle, const char *name);
void become_member(struct handle *handle, const char *group, const char *target, const char *local, uint64_t expiry);
void stop_being_member(struct handle *handle, const char *group, const char *target, const char *local);
void open_loop(struct handle *handle); /* it is the first one, so number 0 */
void wait_for(struct handle *handle, const char *channel);
void sleep_now(struct handle *handle);
void use_all_loans(struct handle *handle);            /* so that large payloads are copied under the lock */
void nobody_does_housekeeping(struct handle *handle); /* by chance, in the next moment */
void somebody_died(struct handle *handle, void (*work)(struct handle *));

/* Operations as an act. */
enum status push_for(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size,
                     uint32_t capacity, uint64_t expiry);
enum status group_send_for(struct handle *handle, const char *group, uint32_t id, size_t size, uint32_t capacity,
                           uint64_t expiry);
enum status act_push(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size,
                     uint32_t capacity);
enum status act_group_send(struct handle *handle, const char *group, uint32_t id, size_t size, uint32_t capacity);
enum status act_push_two(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size,
                         uint32_t capacity); /* this one and the next */
/* To all but the members in `passed_over`, a normal channel, or NULL. */
enum status act_group_send_two(struct handle *handle, const char *group, uint32_t id, size_t size, uint32_t capacity,
                               const char *passed_over);
enum status act_pop(struct handle *handle, const char *channel, uint32_t loop);
enum status act_drain(struct handle *handle, const char *inbox, uint32_t loop);
