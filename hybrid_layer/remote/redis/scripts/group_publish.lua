-- SPDX-License-Identifier: BSD-3-Clause
-- Sends one message to the processes that are subscribed to a group, and to the members that other processes added: to
-- the queues of normal channels, and to process-specific channels over the pub/sub channel of their process.
--
-- KEYS  1 group, which is also the name of the pub/sub channel  2 epoch
-- ARGV  1 payload  2 expiry in ms  3 capacity of all, or 0 if they differ  4 begin of all keys  5 group name
--       6 "1" if the queues of normal channels are perhaps on other shards, else "0"
--       7 "@MACHINE!", a machine that gets nothing, or ""
--       8 the stamp of the message, if the caller can tell what the server's clock shows; else ""
--       9.. part, capacity, part, capacity...  and last, the caller's knowledge of the clock (clock.lua), or nothing
-- Returns how many processes were reached, if there is a stamp and the server keeps no members of the group
--      or {processes and members reached, members at capacity, members whose process is gone, expired entries dropped,
--          epoch, the server's clock in ms, and if ARGV[6] is "1", the normal channels, which have got nothing}
--      or {-1, part...}: the parts whose capacities are missing; nothing was sent

-- Most messages end here, before the functions below are created. Without an epoch, the message's place among all that
-- is published shows whether a flush came later.
if ARGV[8] ~= '' and redis.call('EXISTS', KEYS[1]) == 0 then
  local command = string.find(KEYS[1], '{', 1, true) and 'SPUBLISH' or 'PUBLISH'
  return redis.call(command, KEYS[1], '1|' .. ARGV[8] .. '|||' .. ARGV[1])
end

-- include: clock epoch alive queue stream registration members publish

local refusal = refusal_while_moving(ARGV[4])
if refusal then
  return refusal
end
local epoch = current_epoch(KEYS[2])
local now, life, base = server_ms(), tonumber(ARGV[2]), ARGV[4]
local known = #ARGV % 2 == 1 and ARGV[#ARGV]
if redis.call('EXISTS', KEYS[1]) == 0 then
  prolong_epoch(KEYS[2], life, known)
  return {publish(KEYS[1], entry_head(now + life, epoch) .. '|' .. ARGV[1]), 0, 0, 0, epoch, now}
end
local members = members_by_part(KEYS[1], base, epoch, now)
local capacity_of, unknown = capacities(members.parts, tonumber(ARGV[3]), ARGV, 9)
if not capacity_of then
  return unknown
end

local elsewhere = ARGV[6] == '1' and {} or nil
local living, gone, dead = living_and_gone(KEYS[1], members, base, epoch, now, life, known, elsewhere, ARGV[7])
local queued, listening = {}, {}
for _, part in ipairs(living) do
  local way = (of_process(part) and not is_machine(part)) and listening or queued
  way[#way + 1] = part
end
local sent, full, expired, doubtful =
  store_for_each(KEYS[1], queued, members, capacity_of, base, ARGV[1], epoch, life, now, known)
local head = entry_head(now + life, epoch)
-- After the queues: there, a full server refuses the script, and then nobody gets the message.
for _, part in ipairs(listening) do
  local entry = head .. members.names_of[part] .. '|' .. ARGV[1]
  if publish(base .. 'process|' .. process_of(part), 'g|' .. ARGV[5] .. '|' .. entry) > 0 then
    sent = sent + members.count_of[part]
  else
    dead = dead + members.count_of[part]
  end
end
sent = sent + publish(KEYS[1], head .. '|' .. ARGV[1])
tidy_up(KEYS[1], base, members, gone, epoch, now)
prolong_epoch(KEYS[2], life, known)
return {sent, full, dead + doubtful, expired, epoch, now, elsewhere}
