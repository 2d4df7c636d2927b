/* The checker's own test: each kind of invariant is broken in a live segment, and the checker names it. */
#include "scenes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "memberships.h"

static struct handle *handle;
static uint32_t a, b, inbox, group, pair, member, left_member, loan;

static struct channel *channel(uint32_t reference) { return channel_at(handle, reference); }
static struct message *message(uint32_t reference) { return block_raw(handle, &handle->messages, reference); }
static struct waiter *waiter(uint32_t reference) { return (struct waiter *)message(reference); }
static struct slot *slot(void) { return &handle->slots[handle->private->slot]; }
static struct area_books *books(void) { return handle->messages.books; }
static struct message *first(void) { return message(channel(a)->head); }
static struct entry *entry(void) { return (struct entry *)message(channel(inbox)->head); }
static struct payload *payload(void) { return (struct payload *)message(entry()->payload); }
static uint32_t other(uint32_t value) { return value + 1; }

/* Queues: a has two messages of several blocks each, the inbox a group message. */
static void head_is_nowhere(void) { channel(a)->head = handle->messages.blocks; }
static void head_is_no_message(void) { channel(a)->head = b; }
static void count_is_wrong(void) { channel(a)->count = 1; }
static void tail_is_wrong(void) { channel(a)->tail = channel(a)->head; }
static void deadline_falls(void) { first()->deadline = UINT64_MAX; }
static void size_is_wrong(void) { first()->size += BLOCK; }
static void size_is_too_small(void) { first()->size = 1; }
static void last_block_is_wrong(void) { first()->tail = other(first()->tail); }
static void chain_is_shared(void) { message(first()->next)->chain = first()->chain; }
static void chain_is_no_tail(void) { message(first()->chain)->kind = KIND_FREE; }
static void entry_has_no_payload(void) { entry()->payload = a; }
static void entry_has_no_pair(void) { entry()->pair = 0; }
static void entry_has_others_pair(void) { pair_at(handle, entry()->pair)->target = b; }
static void entry_of_the_future(void) { entry()->sequence = handle->header->sequence + 1; }
static void references_are_wrong(void) { payload()->references++; }
static void payload_ends_early(void) { payload()->chain = 0; }
static void payloads_last_block_is_wrong(void) { payload()->tail = 0; }
static void pending_is_wrong(void) { pair_at(handle, pair)->pending++; }

/* Channels. */
static void bucket_leads_nowhere(void) { *channel_bucket(handle, "a", 1) = channel(a)->head; }
static void bucket_is_not_its_own(void) { channel(a)->name[0] = 'z'; }
static void name_is_anothers(void) {
    channel(a)->name[0] = 'b';
    channel(a)->bucket_next = *channel_bucket(handle, "b", 1);
    *channel_bucket(handle, "a", 1) = 0;
    *channel_bucket(handle, "b", 1) = a;
}
static void inbox_has_no_owner(void) { channel(inbox)->owner = 0; }
static void channel_has_an_owner(void) { channel(a)->owner = handle->private->slot + 1; }
static void channel_is_idle(void) {
    uint32_t reference;
    struct name name = named("idle");
    MUST(channel_find_or_create(handle, name, &reference) == OK);
}
static void inbox_is_in_no_list(void) { slot()->inboxes = 0; }
static void list_of_inboxes_is_broken(void) { slot()->inboxes = a; }
static void list_of_pairs_is_broken(void) { channel(inbox)->pairs = member; }
static void pair_is_in_no_list(void) { channel(b)->pairs = 0; }

/* Waiters: two loops wait for a, the first one is ready. */
static void list_of_waiters_is_broken(void) { waiter(channel(a)->waiters)->previous = a; }
static void list_of_waiters_ends_wrongly(void) { channel(a)->waiters_tail = channel(a)->waiters; }
static void waiter_is_nobodys(void) { waiter(channel(a)->waiters)->generation++; }
static void waiter_is_in_no_loop(void) { slot()->loops[1].waiters = 0; }
static void loop_is_not_in_use(void) { slot()->loops[1].in_use = 0; }
static void ready_is_in_no_list(void) { slot()->loops[0].ready = 0; }
static void ready_list_is_broken(void) { slot()->loops[1].ready = channel(a)->waiters; }
static void ready_tail_is_wrong(void) { slot()->loops[0].ready_tail = 0; }

/* Loans. */
static void loan_is_nowhere(void) { slot()->loans[loan].block = a; }
static void loan_is_nobodys(void) { handle->slots[7].loans[0].block = slot()->loans[loan].block; }

/* Groups: "g" has the inbox, of which one member has left, and "b". */
static void group_bucket_is_not_its_own(void) { group_at(handle, group)->name[0] = 'z'; }
static void list_of_groups_pairs_is_broken(void) { group_at(handle, group)->pairs = member; }
static void group_is_idle(void) {
    uint32_t reference;
    struct name name = named("idle");
    MUST(create_group(handle, name, &reference) == OK);
}
static void group_is_there_twice(void) {
    uint32_t reference, of_it;
    struct name name = named("g"), nobody = named("");
    MUST(create_group(handle, name, &reference) == OK && create_pair(handle, reference, a, &of_it) == OK);
    MUST(create_member(handle, of_it, nobody, 0) == OK);
}
static void pair_is_idle(void) {
    uint32_t reference;
    MUST(create_pair(handle, group, a, &reference) == OK);
}
static void pair_is_there_twice(void) {
    uint32_t reference;
    MUST(create_pair(handle, group, b, &reference) == OK);
    struct name nobody = named("");
    MUST(create_member(handle, reference, nobody, 0) == OK);
}
static void list_of_members_is_broken(void) { member_at(handle, pair_at(handle, pair)->members)->previous = member; }
static void member_is_in_no_list(void) {
    struct pair *of_b = pair_at(handle, channel(b)->pairs);
    struct name name = named("x");
    MUST(create_member(handle, channel(b)->pairs, name, 0) == OK);
    of_b->members = member_at(handle, of_b->members)->next;
    member_at(handle, of_b->members)->previous = 0;
    of_b->live--;
}
static void member_is_there_twice(void) {
    struct name name = named("y");
    MUST(create_member(handle, pair, name, 0) == OK);
}
static void set(uint32_t reference, uint64_t joined, uint64_t left, uint64_t deadline) {
    member_set(member_at(handle, reference), joined, left, deadline);
}
static void member_of_the_future(void) { set(member, handle->header->sequence + 2, 0, now_ns() + LONG); }
static void member_left_in_the_future(void) { set(left_member, 1, handle->header->sequence + 2, now_ns() + LONG); }
static void member_outlives_its_pair(void) { set(member, 1, 0, UINT64_MAX); }
static void member_joined_otherwise(void) { member_at(handle, member)->joined ^= 1; }
static void member_has_left_otherwise(void) { member_at(handle, left_member)->left ^= 1; }
static void member_ends_otherwise(void) { member_at(handle, member)->deadline ^= 1; }
static void member_is_being_changed(void) { member_at(handle, member)->check = 0; }
static void live_is_wrong(void) { pair_at(handle, pair)->live++; }
static void gone_is_wrong(void) { pair_at(handle, pair)->gone = 0; }
static void group_chain_is_shared(void) { pair_at(handle, pair)->chain = member; }

/* The shard table. */
static void number_of_inboxes_is_wrong(void) { handle->header->inboxes++; }
static void position_is_another(void) { handle->shards[5].positions[0].sequence++; }
static void position_is_nowhere(void) { handle->shards[6].at = 3; }

/* Tallies. */
static void tally_is_elsewhere(void) {
    uint32_t place = tally_find(handle, named("a")), other = (place + TALLIES / 2) % TALLIES;
    handle->tallies[other] = handle->tallies[place];
    handle->tallies[place].name_length = 0;
}
static void tally_has_no_name(void) { handle->tallies[tally_find(handle, named("a"))].name_length = UINT32_MAX; }
static void channel_has_anothers_tally(void) { channel(a)->tally = TALLY_OTHER + 1; }

/* Memory. */
static void free_chain_leads_nowhere(void) { books()->free_head = handle->messages.blocks + 1; }
static void used_is_free(void) {
    message(books()->free_head)->chain = a;
    books()->free_count++;
}
static void free_chain_is_a_circle(void) { message(books()->free_head)->chain = books()->free_head; }
static void free_count_is_wrong(void) { books()->free_count++; }
static void block_is_lost(void) {
    books()->free_head = message(books()->free_head)->chain;
    books()->free_count--;
}
static void group_block_is_lost(void) { blocks_set_fresh(handle->groups.books, handle->groups.books->fresh + 1); }
static void fresh_has_no_check(void) { books()->fresh--; }
static void fresh_is_not_reserved(void) { atomic_store(&books()->reserved, 3); }

#define CASE(breaks, says) {breaks, #breaks, says}

static const struct {
    void (*breaks)(void);
    const char *name, *says;
} cases[] = {
    CASE(head_is_nowhere, "a queue leads nowhere"),
    CASE(head_is_no_message, "a queue holds something else than messages"),
    CASE(count_is_wrong, "a queue's count is wrong"),
    CASE(tail_is_wrong, "a queue's tail is wrong"),
    CASE(deadline_falls, "deadlines of a queue fall"),
    CASE(size_is_wrong, "a message leads nowhere"),
    CASE(size_is_too_small, "a chain is longer than its record"),
    CASE(last_block_is_wrong, "a message's last block is not the one that it names"),
    CASE(chain_is_shared, "a block belongs to two records"),
    CASE(chain_is_no_tail, "a message leads nowhere"),
    CASE(entry_has_no_payload, "an entry has no payload"),
    CASE(entry_has_no_pair, "an entry has a pair in a normal channel, or none in an inbox"),
    CASE(entry_has_others_pair, "an entry has no pair"),
    CASE(entry_of_the_future, "an entry is of a group send that is yet to come"),
    CASE(references_are_wrong, "a payload counts its references wrongly"),
    CASE(payload_ends_early, "a payload leads nowhere"),
    CASE(payloads_last_block_is_wrong, "a payload's last block is not the one that it names"),
    CASE(pending_is_wrong, "a pair counts its entries wrongly"),
    CASE(bucket_leads_nowhere, "a bucket leads nowhere"),
    CASE(bucket_is_not_its_own, "a channel lies in a bucket that is not its own"),
    CASE(name_is_anothers, "two channels have one name"),
    CASE(inbox_has_no_owner, "an inbox has no owner"),
    CASE(channel_has_an_owner, "or a normal channel has one"),
    CASE(channel_is_idle, "nothing keeps a channel in being"),
    CASE(inbox_is_in_no_list, "an inbox is in no slot's list"),
    CASE(list_of_inboxes_is_broken, "a slot's list of inboxes is broken"),
    CASE(list_of_pairs_is_broken, "a channel's list of pairs is broken"),
    CASE(pair_is_in_no_list, "a pair is in no list"),
    CASE(list_of_waiters_is_broken, "a list of waiters is broken"),
    CASE(list_of_waiters_ends_wrongly, "a list of waiters has the wrong end"),
    CASE(waiter_is_nobodys, "a loop's list of waiters is broken"),
    CASE(waiter_is_in_no_loop, "a waiter is in no loop's list"),
    CASE(loop_is_not_in_use, "a loop's list of waiters is broken"),
    CASE(ready_is_in_no_list, "a loop's list of ready waiters does not hold all"),
    CASE(ready_list_is_broken, "a loop's list of ready waiters is broken"),
    CASE(ready_tail_is_wrong, "a loop's list of ready waiters does not hold all"),
    CASE(loan_is_nowhere, "a loan leads nowhere"),
    CASE(loan_is_nobodys, "a loan is nobody's"),
    CASE(group_bucket_is_not_its_own, "a record of groups lies in a bucket that is not its own"),
    CASE(list_of_groups_pairs_is_broken, "a group's list of pairs is broken"),
    CASE(group_is_idle, "nothing keeps a group in being"),
    CASE(group_is_there_twice, "two groups have one name"),
    CASE(pair_is_idle, "nothing keeps a pair in being"),
    CASE(pair_is_there_twice, "two pairs are of one group and one channel"),
    CASE(list_of_members_is_broken, "a list of members is broken"),
    CASE(member_is_in_no_list, "a member is in no list"),
    CASE(member_is_there_twice, "two members have one name"),
    CASE(member_of_the_future, "a member joined or left after a group send that is yet to come"),
    CASE(member_left_in_the_future, "a member joined or left after a group send that is yet to come"),
    CASE(member_outlives_its_pair, "a member lives longer than its pair knows"),
    CASE(member_joined_otherwise, "a member's numbers are not those that were set"),
    CASE(member_has_left_otherwise, "a member's numbers are not those that were set"),
    CASE(member_ends_otherwise, "a member's numbers are not those that were set"),
    CASE(member_is_being_changed, "a member's numbers are not those that were set"),
    CASE(live_is_wrong, "a pair counts its members wrongly"),
    CASE(gone_is_wrong, "a pair counts its members wrongly"),
    CASE(group_chain_is_shared, "a chain is longer than its record"),
    CASE(number_of_inboxes_is_wrong, "the number of inboxes is wrong"),
    CASE(position_is_another, "the position in a stream contradicts its check"),
    CASE(position_is_nowhere, "the position in a stream contradicts its check"),
    CASE(tally_is_elsewhere, "a tally lies where its name does not lead"),
    CASE(tally_has_no_name, "a tally lies where its name does not lead"),
    CASE(channel_has_anothers_tally, "or a channel is counted as another"),
    CASE(free_chain_leads_nowhere, "the free chain leads nowhere"),
    CASE(used_is_free, "a used block is free"),
    CASE(free_chain_is_a_circle, "the free chain runs into itself"),
    CASE(free_count_is_wrong, "the free chain's count is wrong"),
    CASE(block_is_lost, "a block is neither used nor free"),
    CASE(group_block_is_lost, "a block is neither used nor free"),
    CASE(fresh_has_no_check, "the number of blocks that were ever used contradicts its check"),
    CASE(fresh_is_not_reserved, "more blocks are in use than there is memory for"),
};

/* A segment with something of each kind in it. */
static void fill(void) {
    uint32_t second;
    open_inbox(handle, "x.1!");
    open_loop(handle);
    MUST(op_loop_open(handle, WAIT, &second) == OK && second == 1);
    wait_for(handle, "a");
    MUST(op_wait(handle, WAIT, named("a"), 1) == EMPTY);
    put(handle, "a", "", 1, MEDIUM, LONG);
    put(handle, "a", "", 2, MEDIUM, LONG);
    become_member(handle, "g", "x.1!", "y", LONG);
    become_member(handle, "g", "x.1!", "z", LONG);
    become_member(handle, "g", "b", "", LONG);
    put_for_all(handle, "g", 4, MEDIUM, LONG);
    stop_being_member(handle, "g", "x.1!", "z");
    MUST(op_loan_reserve(handle, WAIT, 3, MEDIUM, false, &loan) == OK);
    put(handle, "gone", "", 3, MEDIUM, LONG);
    take(handle, "gone");
    position_move(&handle->shards[5], (struct position){7, 0});
    MUST(channel_find(handle, named("a"), &a) == OK && channel_find(handle, named("b"), &b) == OK);
    MUST(channel_find(handle, named("x.1!"), &inbox) == OK && find_group(handle, named("g"), &group) == OK);
    MUST(find_pair(handle, group, inbox, &pair) == OK);
    MUST(find_member(handle, pair, named("y"), false, &member) == OK);
    MUST(find_member(handle, pair, named("z"), true, &left_member) == OK);
    MUST(slot()->loops[0].ready != 0 && slot()->loops[1].ready == 0 && books()->free_count > 1);
}

int main(int argc, char **argv) {
    char error[160];
    uint64_t totals[TOTALS];
    begin(argc, argv, "broken");
    handle = join(new_segment(256 * KIB, 64 * KIB));
    fill();
    check(handle);
    unsigned char *sound = malloc(handle->size);
    MUST(sound != NULL);
    memcpy(sound, handle->header, handle->size);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].breaks();
        MUST(op_check(handle, WAIT, error, sizeof error, totals) == OK);
        if (strstr(error, cases[i].says) == NULL) {
            fprintf(stderr, "%s: expected \"%s\", found \"%s\"\n", cases[i].name, cases[i].says, error);
            wrong(__FILE__, __LINE__, "the checker names what is broken");
        }
        MUST(handle->header->rebuilds == 0);
        memcpy(handle->header, sound, handle->size);
        check(handle);
    }
    free(sound);
    return 0;
}
