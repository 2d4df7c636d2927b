-- SPDX-License-Identifier: BSD-3-Clause
-- Sends one message to every member of a group: one entry per inbox or normal channel. Each process and each machine has
-- an inbox on the shard of the group, so the keys of inboxes are derived from the members. The key of the members by part
-- is derived from the key of the group.
--
-- KEYS  1 group  2 epoch
-- ARGV  1 payload  2 expiry in ms  3 capacity of all, or 0 if they differ  4 begin of all keys
--       5 "1" if the queues of normal channels are perhaps on other shards, else "0"
--       6 "@MACHINE!", a machine that gets nothing, or ""
--       7.. part, capacity, part, capacity...  and last, the caller's knowledge of the clock (clock.lua), or nothing
-- Returns {members reached, members at capacity, members that are gone, expired entries dropped, epoch,
--          the server's clock in ms or 0, and if ARGV[5] is "1", the normal channels, which have got nothing}
--      or {-1, part...}: the parts whose capacities are missing; nothing was sent

-- Within a machine, most messages end here, before the functions below are created: nobody else has members.
if ARGV[6] ~= '' and redis.call('ZCARD', KEYS[1]) < 2 then
  local epoch = redis.call('GET', KEYS[2])
  if epoch and (redis.call('ZSCORE', KEYS[1], ARGV[6]) or redis.call('EXISTS', KEYS[1]) == 0) then
    return {0, 0, 0, 0, epoch, 0}
  end
end

-- include: clock epoch alive queue stream registration members

local refusal = refusal_while_moving(ARGV[4])
if refusal then
  return refusal
end
local epoch = current_epoch(KEYS[2])
local now, life, base = server_ms(), tonumber(ARGV[2]), ARGV[4]
local known = #ARGV % 2 == 1 and ARGV[#ARGV]
local members = members_by_part(KEYS[1], base, epoch, now)
local capacity_of, unknown = capacities(members.parts, tonumber(ARGV[3]), ARGV, 7)
if not capacity_of then
  return unknown
end

local elsewhere = ARGV[5] == '1' and {} or nil
local living, gone, dead = living_and_gone(KEYS[1], members, base, epoch, now, life, known, elsewhere, ARGV[6])
local sent, full, expired, doubtful =
  store_for_each(KEYS[1], living, members, capacity_of, base, ARGV[1], epoch, life, now, known)
tidy_up(KEYS[1], base, members, gone, epoch, now)
prolong_epoch(KEYS[2], life, known)
return {sent, full, dead + doubtful, expired, epoch, now, elsewhere}
