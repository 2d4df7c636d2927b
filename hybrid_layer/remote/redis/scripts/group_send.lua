-- Gives one message to every member of a group whose inbox lies on this shard: one entry per inbox or normal channel.
-- The keys of the inboxes are derived from the members, which by construction share the shard; the key of the members by
-- part, from that of the group.
--
-- KEYS  1 group  2 epoch
-- ARGV  1 payload  2 expiry in ms  3 capacity, or 0: look it up  4 begin of all keys  5.. part, capacity, part, capacity...
--       and last, what the caller knows of the clock (clock.lua), or nothing
-- Returns {members reached, members at capacity, members whose process is gone, expired entries dropped, epoch,
--          what the server's clock shows, in ms}
--      or {-1, part...} for the parts whose capacity is asked for; then nothing was sent
-- include: clock epoch alive queue members

local refusal = refusal_while_moving(ARGV[4])
if refusal then
  return refusal
end
local epoch = current_epoch(KEYS[2])
local now, life, base = server_ms(), tonumber(ARGV[2]), ARGV[4]
local told = #ARGV % 2 == 1 and ARGV[#ARGV]
local members = members_by_part(KEYS[1], base, epoch, now)
local capacity_of, unknown = capacities(members.parts, tonumber(ARGV[3]), ARGV, 5)
if not capacity_of then
  return unknown
end

local living, gone, dead = living_and_gone(members, base, epoch, now, life, told)
local sent, full, expired, doubtful = store_for_each(living, members, capacity_of, base, ARGV[1], epoch, life, now, told)
tidy_up(KEYS[1], base, members, gone, epoch, now)
prolong_epoch(KEYS[2], life, told)
return {sent, full, dead + doubtful, expired, epoch, now}
