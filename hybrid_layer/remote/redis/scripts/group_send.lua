-- Sends one message to every member of a group on this shard: one entry per inbox or normal channel. The keys of the
-- inboxes are derived from the members, which are on this shard by construction. The key of the members by part is
-- derived from the key of the group.
--
-- KEYS  1 group  2 epoch
-- ARGV  1 payload  2 expiry in ms  3 capacity of all, or 0 if they differ  4 begin of all keys
--       5.. part, capacity, part, capacity...  and last, the caller's knowledge of the clock (clock.lua), or nothing
-- Returns {members reached, members at capacity, members whose process is gone, expired entries dropped, epoch,
--          the server's clock in ms}
--      or {-1, part...}: the parts whose capacities are missing; nothing was sent
-- include: clock epoch alive queue members

local refusal = refusal_while_moving(ARGV[4])
if refusal then
  return refusal
end
local epoch = current_epoch(KEYS[2])
local now, life, base = server_ms(), tonumber(ARGV[2]), ARGV[4]
local known = #ARGV % 2 == 1 and ARGV[#ARGV]
local members = members_by_part(KEYS[1], base, epoch, now)
local capacity_of, unknown = capacities(members.parts, tonumber(ARGV[3]), ARGV, 5)
if not capacity_of then
  return unknown
end

local living, gone, dead = living_and_gone(members, base, epoch, now, life, known)
local sent, full, expired, doubtful = store_for_each(living, members, capacity_of, base, ARGV[1], epoch, life, now, known)
tidy_up(KEYS[1], base, members, gone, epoch, now)
prolong_epoch(KEYS[2], life, known)
return {sent, full, dead + doubtful, expired, epoch, now}
