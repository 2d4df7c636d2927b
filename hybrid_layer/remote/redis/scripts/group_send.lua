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

-- By machine, most messages end here, before the functions below are created, which costs the server more than all this:
-- a few machines have members, and no others; all are alive and have room. Whatever else there is, is left to the rest of
-- the script. Until then nothing is written.
local FEW, UNTRIMMED, HOUR_MS = 8, 64, 3600000
local knows_all = ARGV[3] ~= '0' and string.byte(ARGV[#ARGV], -1) == 124 and not string.find(ARGV[4], '{', 1, true)
local is_by_machine = ARGV[6] ~= ''
if knows_all and not is_by_machine then -- the sender's machine has no members; a machine's membership ends last
  is_by_machine = string.byte(redis.call('ZRANGE', KEYS[1], -1, -1)[1] or '') == 64
end
if is_by_machine and knows_all then
  local epoch, time, life = redis.call('GET', KEYS[2]), redis.call('TIME'), tonumber(ARGV[2])
  local now, streams = time[1] * 1000 + math.floor(time[2] / 1000), {}
  local members = redis.call('ZRANGE', KEYS[1], 0, FEW, 'WITHSCORES')
  local is_usual = epoch and life <= HOUR_MS and #members <= 2 * FEW
  for i = 1, is_usual and #members or 0, 2 do
    local member, t = members[i], members[i + 1]
    if member ~= ARGV[6] then
      local is_machine = string.byte(member) == 64 and string.byte(member, -1) == 33
      local value = is_machine and redis.call('MGET', ARGV[4] .. 'alive|' .. string.sub(member, 1, -2))[1]
      local ends, inboxes = string.match(value or '', '^(%d+)%.%d+|%d+|(%d+)$')
      ends = tonumber(ends)
      local lives = ends and ends > now and ends < now + math.max(life, 1000)
      local key = ARGV[4] .. 'inbox|' .. member
      local length = lives and tonumber(t) > now and redis.call('XLEN', key)
      is_usual = length and length < ARGV[3] * inboxes + UNTRIMMED
      if not is_usual then
        break
      end
      streams[#streams + 1] = {key, t, length}
    end
  end
  if is_usual then
    local group = string.sub(KEYS[1], #ARGV[4] + #'group|' + 1)
    local head = string.format('1|%.0f|%s|=%s,', now + life, epoch, group)
    for _, stream in ipairs(streams) do
      redis.call('XADD', stream[1], '*', 'e', head .. stream[2] .. '|' .. ARGV[1])
      if stream[3] == 0 then -- perhaps the key is new; else the machine keeps it (stream.lua)
        redis.call('PEXPIRE', stream[1], 2 * life + HOUR_MS)
      end
    end
    return {#streams, 0, 0, 0, epoch, #streams > 0 and now or 0}
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
