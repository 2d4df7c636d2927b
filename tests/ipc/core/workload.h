/* Random operations whose results are not predicted: for tests of what other processes, threads or damage make of it.
 */
#pragma once

#include "support.h"

#define CHANNELS 4
#define MESSAGES (1u << 24)

/* Shared by all processes of a test. Message number n was taken by `taken[n]` readers, and its send returned OK if
 * `sent[n]`. Only messages to normal channels are entered, and group messages to nobody. */
struct ledger {
    _Atomic uint32_t next;
    _Atomic uint32_t broken;  /* payloads that were not whole */
    _Atomic uint32_t workers; /* the highest number of one */
    _Atomic uint8_t sent[MESSAGES];
    _Atomic uint8_t taken[MESSAGES];
};

struct worker {
    struct handle *handle;
    struct ledger *ledger;
    char inbox[32];
    uint32_t loop;
    bool is_strict; /* no status may be DAMAGED, no payload broken */
};

struct ledger *new_ledger(void);

/* Opens the worker's inbox and loop. No two workers of a test have the same number. */
void worker_begin(struct worker *worker, struct handle *handle, struct ledger *ledger, uint32_t number, bool is_strict);

/* One random operation. */
void worker_step(struct worker *worker);

/* Takes all messages of the normal channels. */
void worker_drain_normal(struct worker *worker);
