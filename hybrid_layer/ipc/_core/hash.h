/* SipHash-1-3 (Aumasson and Bernstein): names come from users, so the buckets need a hash that they cannot aim at. */
#ifndef HYBRID_HASH_H
#define HYBRID_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const uint64_t seed[2], const void *bytes, size_t size);

#endif
