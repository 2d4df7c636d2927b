/* SPDX-License-Identifier: BSD-3-Clause */
/* SipHash-1-3 (Aumasson and Bernstein): names come from users, so the buckets need a hash that they cannot aim at. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const uint64_t seed[2], const void *bytes, size_t size);
