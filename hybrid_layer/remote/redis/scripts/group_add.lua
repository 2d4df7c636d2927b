-- SPDX-License-Identifier: BSD-3-Clause
-- Makes a channel a member of a group until now + ARGV[2], on the shard of the group. For a machine's see machine_add.
--
-- KEYS  1 group  2 epoch  3 the members by part (members.lua)
--       4 the alive key of the member's process; absent if the caller records the membership
--       5 its notes; absent if it is notified by pub/sub
-- ARGV  1 member  2 life in ms  4 group name
--       3 "add" | "restore" (only if it is missing) | "raise" (only if it is missing or ends earlier)
--       5 the incarnation of data that the caller met first here; absent like KEYS[4]
--       6 the pub/sub channel of the member's process; absent if it is not notified that way
-- Returns {1 added | 0 the process is gone, epoch}
-- include: clock epoch alive notes publish

local epoch, now, life = current_epoch(KEYS[2]), server_ms(), tonumber(ARGV[2])
if KEYS[4] and is_gone_for_others(KEYS[4], epoch, ARGV[5], now, life) then
  return {0, epoch}
end
local deadline = string.format('%.0f', now + life)
local added
if ARGV[3] == 'restore' then
  added = redis.call('ZADD', KEYS[1], 'NX', deadline, ARGV[1])
elseif ARGV[3] == 'raise' then
  added = redis.call('ZADD', KEYS[1], 'GT', deadline, ARGV[1])
else
  added = redis.call('ZADD', KEYS[1], deadline, ARGV[1])
end
-- An existing membership may end earlier than before, if settings differ.
if added > 0 or redis.call('PTTL', KEYS[3]) >= life then
  redis.call('DEL', KEYS[3])
end
if redis.call('PTTL', KEYS[1]) < life + SLACK_MS then
  redis.call('PEXPIRE', KEYS[1], life + SLACK_MS)
end
local note = '+|' .. ARGV[4] .. '|' .. ARGV[1] .. '|' .. deadline .. '|' .. epoch
if KEYS[5] then
  leave_note(KEYS[5], note)
end
if ARGV[6] then
  publish(ARGV[6], 'n|' .. note)
end
prolong_epoch(KEYS[2], 0)
return {1, epoch}
