-- SPDX-License-Identifier: BSD-3-Clause
-- Sends several messages to every member of a group, in order: as group_send.lua, or as group_publish.lua if the processes
-- are subscribed to their groups. All go to the same members.
--
-- KEYS  1 group, which is also the name of the pub/sub channel  2 epoch
-- ARGV  1 expiry in ms  2 capacity of all, or 0 if they differ  3 begin of all keys
--       4 "1" if the queues of normal channels are perhaps on other shards, else "0"
--       5 "@MACHINE!", a machine that gets nothing, or ""
--       6 the group's name if processes are subscribed to their groups, else ""
--       7 the number of messages  8 the number of channels that get nothing; or, below 0, the life in ms of a question:
--         it is for the machines and the subscribed processes, and for no member that the server knows
--       9.. the payloads of the messages, then the names of these channels
--       then part, capacity, part, capacity...  and last, the caller's knowledge of the clock (clock.lua), or ""
-- Returns {members reached, members at capacity, members that are gone, expired entries dropped, epoch,
--          the server's clock in ms, and if ARGV[4] is "1", the normal channels, which have got nothing}
--         with the sums for all messages
--      or {-1, part...}: the parts whose capacities are missing; nothing was sent
-- include: clock epoch alive queue stream registration members publish

local refusal = refusal_while_moving(ARGV[3])
if refusal then
  return refusal
end
local epoch = current_epoch(KEYS[2])
local now, life, base, name = server_ms(), tonumber(ARGV[1]), ARGV[3], ARGV[6]
local last_payload = 8 + ARGV[7]
local last, is_question = last_payload + math.max(0, ARGV[8]), tonumber(ARGV[8]) < 0
local message_life = is_question and -ARGV[8] or life
local known, publishes = ARGV[#ARGV], name ~= ''
local members = members_by_part(KEYS[1], base, epoch, now)
local capacity_of, unknown = capacities(members.parts, tonumber(ARGV[2]), ARGV, last + 1)
if not capacity_of then
  return unknown
end

-- The members without those that get nothing. The others of their inboxes are named in the entry.
local function without_excluded()
  local excluded, chosen = {}, {parts = {}, names_of = {}, count_of = {}}
  for i = last_payload + 1, last do
    excluded[ARGV[i]] = true
  end
  for _, part in ipairs(members.parts) do
    local names = {}
    for name in string.gmatch(string.sub(members.names_of[part], #part + 1) .. ',', '([^,]*),') do
      if not excluded[part .. name] and (is_machine(part) or not is_question) then
        names[#names + 1] = name
      end
    end
    if #names > 0 then
      chosen.parts[#chosen.parts + 1] = part
      chosen.names_of[part], chosen.count_of[part] = part .. table.concat(names, ','), #names
    end
  end
  return chosen
end

local chosen = (last > last_payload or is_question) and without_excluded() or members
local elsewhere = ARGV[4] == '1' and {} or nil
local living, gone, dead = living_and_gone(KEYS[1], chosen, base, epoch, now, life, known, elsewhere, ARGV[5])
local queued, listening = {}, {}
for _, part in ipairs(living) do
  local way = (publishes and of_process(part) and not is_machine(part)) and listening or queued
  way[#way + 1] = part
end
local head = entry_head(now + message_life, epoch)
local sent, full, expired = 0, 0, 0
dead = dead * ARGV[7]
for i = 9, last_payload do
  local stored, at_capacity, dropped, doubtful =
    store_for_each(KEYS[1], queued, chosen, capacity_of, base, ARGV[i], epoch, message_life, now, known)
  sent, full, expired, dead = sent + stored, full + at_capacity, expired + dropped, dead + doubtful
  for _, part in ipairs(listening) do
    local entry = head .. chosen.names_of[part] .. '|' .. ARGV[i]
    if publish(base .. 'process|' .. process_of(part), 'g|' .. name .. '|' .. entry) > 0 then
      sent = sent + chosen.count_of[part]
    else
      dead = dead + chosen.count_of[part]
    end
  end
  if publishes then
    sent = sent + publish(KEYS[1], head .. '|' .. ARGV[i])
  end
end
tidy_up(KEYS[1], base, members, gone, epoch, now)
prolong_epoch(KEYS[2], life, known)
return {sent, full, dead, expired, epoch, now, elsewhere}
