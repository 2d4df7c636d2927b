#define _GNU_SOURCE
#include "faults.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEGMENTS 4
#define BIGGEST_STORE 4096

/* The shared mappings of this process. */
static struct mapping {
    unsigned char *base;
    size_t size;
    unsigned char *copy,
        *told; /* while the instrument is checked: the bytes as they were; of which bytes a call told */
} mappings[SEGMENTS];

static bool armed;
static uint32_t changes, limit;
static void *last; /* the store that a call announced, and what was there before it */
static size_t last_size;
static unsigned char before[BIGGEST_STORE];

static struct mapping *mapping_of(const void *address) {
    const unsigned char *byte = address;
    for (uint32_t i = 0; i < SEGMENTS; i++)
        if (mappings[i].base != NULL && byte >= mappings[i].base && byte < mappings[i].base + mappings[i].size)
            return &mappings[i];
    return NULL;
}

static void count_last(void) {
    if (last != NULL && memcmp(last, before, last_size) != 0)
        changes++;
    last = NULL;
}

static void about_to_store(void *address, size_t size) {
    struct mapping *mapping = mapping_of(address);
    if (mapping == NULL)
        return;
    if (mapping->told != NULL)
        memset(mapping->told + ((unsigned char *)address - mapping->base), 1, size);
    if (!armed)
        return;
    count_last();
    if (changes == limit)
        kill(getpid(), SIGKILL);
    if (size > BIGGEST_STORE)
        abort();
    last = address;
    last_size = size;
    memcpy(before, address, size);
}

void faults_arm(uint32_t number) {
    armed = true;
    changes = 0;
    limit = number;
    last = NULL;
}

uint32_t faults_disarm(void) {
    count_last();
    armed = false;
    return changes;
}

void faults_watch(void) {
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        if (mappings[i].base == NULL)
            continue;
        mappings[i].copy = malloc(mappings[i].size);
        mappings[i].told = calloc(mappings[i].size, 1);
        if (mappings[i].copy == NULL || mappings[i].told == NULL)
            abort();
        memcpy(mappings[i].copy, mappings[i].base, mappings[i].size);
    }
}

bool faults_missed_a_store(void) {
    for (uint32_t i = 0; i < SEGMENTS; i++)
        for (size_t at = 0; mappings[i].told != NULL && at < mappings[i].size; at++)
            if (mappings[i].base[at] != mappings[i].copy[at] && !mappings[i].told[at])
                return true;
    return false;
}

/* The C library. A bulk copy is two stores, as a process may die in the middle of one. */

void *faults_memcpy(void *to, const void *from, size_t size) {
    size_t half = size / 2;
    about_to_store(to, half);
    memcpy(to, from, half);
    about_to_store((char *)to + half, size - half);
    memcpy((char *)to + half, (const char *)from + half, size - half);
    return to;
}

void *faults_memset(void *to, int byte, size_t size) {
    size_t half = size / 2;
    about_to_store(to, half);
    memset(to, byte, half);
    about_to_store((char *)to + half, size - half);
    memset((char *)to + half, byte, size - half);
    return to;
}

char *faults_strncpy(char *to, const char *from, size_t size) {
    size_t length = strnlen(from, size);
    faults_memcpy(to, from, length);
    faults_memset(to + length, 0, size - length);
    return to;
}

void *faults_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    void *base = mmap(address, size, protection, flags, fd, offset);
    if (base == MAP_FAILED || (flags & MAP_SHARED) == 0)
        return base;
    for (uint32_t i = 0; i < SEGMENTS; i++)
        if (mappings[i].base == NULL) {
            mappings[i] = (struct mapping){.base = base, .size = size};
            return base;
        }
    abort();
}

int faults_munmap(void *address, size_t size) {
    count_last(); /* before it can no longer be looked at */
    for (uint32_t i = 0; i < SEGMENTS; i++)
        if (mappings[i].base == address)
            mappings[i] = (struct mapping){.base = NULL};
    return munmap(address, size);
}

/* What gcc calls. Declared here, as no header does; the names and arguments are the sanitizer's. */

#define QUIET(name, ...)    \
    void name(__VA_ARGS__); \
    void name(__VA_ARGS__) {}

QUIET(__tsan_init, void)
QUIET(__tsan_func_entry, void *caller __attribute__((unused)))
QUIET(__tsan_func_exit, void)
QUIET(__tsan_read1, void *address __attribute__((unused)))
QUIET(__tsan_read2, void *address __attribute__((unused)))
QUIET(__tsan_read4, void *address __attribute__((unused)))
QUIET(__tsan_read8, void *address __attribute__((unused)))
QUIET(__tsan_read16, void *address __attribute__((unused)))
QUIET(__tsan_read_range, void *address __attribute__((unused)), size_t size __attribute__((unused)))
QUIET(__tsan_atomic_signal_fence, int order __attribute__((unused)))

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int order) {
    (void)order;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#define WRITES(size)                                                          \
    void __tsan_write##size(void *address);                                   \
    void __tsan_write##size(void *address) { about_to_store(address, size); } \
    void __tsan_unaligned_write##size(void *address);                         \
    void __tsan_unaligned_write##size(void *address) { about_to_store(address, size); }

WRITES(1)
WRITES(2)
WRITES(4)
WRITES(8)
WRITES(16)

void __tsan_write_range(void *address, size_t size);
void __tsan_write_range(void *address, size_t size) { about_to_store(address, size); }

/* One that reads and writes, with the compiler's own for the work. */
#define CHANGES(bits, name, work)                                                                               \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t value, int order);  \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t value, int order) { \
        (void)order;                                                                                            \
        about_to_store((void *)(uintptr_t)at, sizeof *at);                                                      \
        return work(at, value, __ATOMIC_SEQ_CST);                                                               \
    }

#define COMPARES(bits, name)                                                                                      \
    int __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t *expected, uint##bits##_t value, \
                                     int order, int failed);                                                      \
    int __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t *expected, uint##bits##_t value, \
                                     int order, int failed) {                                                     \
        (void)order, (void)failed;                                                                                \
        about_to_store((void *)(uintptr_t)at, sizeof *at);                                                        \
        return __atomic_compare_exchange_n(at, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);           \
    }

#define ATOMICS(bits)                                                                                \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order);         \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order) {        \
        (void)order;                                                                                 \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                \
    }                                                                                                \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t value, int order);  \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t value, int order) { \
        (void)order;                                                                                 \
        about_to_store((void *)(uintptr_t)at, sizeof *at);                                           \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                               \
    }                                                                                                \
    CHANGES(bits, exchange, __atomic_exchange_n)                                                     \
    CHANGES(bits, fetch_add, __atomic_fetch_add)                                                     \
    CHANGES(bits, fetch_or, __atomic_fetch_or)                                                       \
    CHANGES(bits, fetch_and, __atomic_fetch_and)                                                     \
    COMPARES(bits, compare_exchange_strong)                                                          \
    COMPARES(bits, compare_exchange_weak)

ATOMICS(8)
ATOMICS(32)
ATOMICS(64)
