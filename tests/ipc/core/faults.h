/* Kills a process between two stores to shared memory.
 *
 * The core is compiled with gcc's -fsanitize=thread, which puts a call before each load and store, and is linked with
 * these functions in place of the sanitizer's own. So no store can be forgotten, and the product's sources know nothing
 * of it.
 *
 * Only stores that change something are counted: before and after any other one, the memory is the same.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NEVER UINT32_MAX

/* From here on the process kills itself when it has changed shared memory `changes` times and is about to store again.
 */
void faults_arm(uint32_t changes);

/* Counts no more; how many changes there were. */
uint32_t faults_disarm(void);

/* Checks the instrument itself: from faults_watch on, does anything change of which no call told? */
void faults_watch(void);
bool faults_missed_a_store(void);

/* What the core's calls of the C library are renamed to, as the sanitizer leaves those to its own library. */
void *faults_memcpy(void *to, const void *from, size_t size);
void *faults_memset(void *to, int byte, size_t size);
char *faults_strncpy(char *to, const char *from, size_t size);
void *faults_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int faults_munmap(void *address, size_t size);
