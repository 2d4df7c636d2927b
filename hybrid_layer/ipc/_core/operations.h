/* The operations that the binding offers, each one critical section: lock, work, unlock, and again after growing an
 * area.
 *
 * With TRY the caller holds the interpreter's lock, so the segment lock is asked for once and BUSY comes back if it is
 * taken; the caller then releases the interpreter and asks again with WAIT.
 */
#ifndef HYBRID_OPERATIONS_H
#define HYBRID_OPERATIONS_H

#include "checker.h"
#include "groups.h"
#include "reading.h"
#include "waiters.h"

enum status op_push(struct handle *handle, enum mode mode, struct push *push, struct rings *rings);
enum status op_hold_reserve(struct handle *handle, enum mode mode, size_t local, size_t size, bool is_payload,
                            uint32_t *hold);
enum status op_hold_release(struct handle *handle, enum mode mode, uint32_t hold);
enum status op_pop(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken,
                   struct rings *rings);
enum status op_drain(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken);
enum status op_inbox(struct handle *handle, enum mode mode, struct name name, bool open);
enum status op_wait(struct handle *handle, enum mode mode, struct name name, uint32_t loop);
enum status op_unwait(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct rings *rings);
enum status op_group_add(struct handle *handle, enum mode mode, struct name group, struct name target,
                         struct name local, uint64_t expiry_ns);
enum status op_group_discard(struct handle *handle, enum mode mode, struct name group, struct name target,
                             struct name local);
enum status op_group_send(struct handle *handle, enum mode mode, struct group_send *send, struct rings *rings);
enum status op_group_targets(struct handle *handle, enum mode mode, struct name group, char *names, size_t size,
                             size_t *used);
enum status op_loop_open(struct handle *handle, enum mode mode, uint32_t *loop);
enum status op_loop_close(struct handle *handle, enum mode mode, uint32_t loop, struct rings *rings);
enum status op_collect(struct handle *handle, enum mode mode, uint32_t loop, bool sleep, char *names, size_t size,
                       size_t *used, bool *left);
enum status op_repoll(struct handle *handle, enum mode mode, uint32_t loop);
enum status op_ring_failed(struct handle *handle, enum mode mode, const struct ring *ring, struct rings *rings);
enum status op_flush(struct handle *handle, enum mode mode);
enum status op_is_needed(struct handle *handle, enum mode mode, bool *needed);
enum status op_check(struct handle *handle, enum mode mode, char *error, size_t size, uint64_t totals[TOTALS]);

#endif
