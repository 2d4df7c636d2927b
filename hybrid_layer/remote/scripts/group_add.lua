-- Makes a channel a member of a group until now + ARGV[2], on the shard of the member.
--
-- KEYS  1 group  2 epoch  3 the notes of the member's process; absent when the caller itself keeps the membership
-- ARGV  1 member  2 life in ms  3 "add" | "restore" (only if it is missing)  4 group name
--       5 the pub/sub channel of the member's process, if it is told that way
-- Returns the epoch
-- include: clock epoch notes publish

local epoch, life = current_epoch(KEYS[2]), tonumber(ARGV[2])
local deadline = as_text(server_ms() + life)
if ARGV[3] == 'restore' then
  redis.call('ZADD', KEYS[1], 'NX', deadline, ARGV[1])
else
  redis.call('ZADD', KEYS[1], deadline, ARGV[1])
end
if redis.call('PTTL', KEYS[1]) < life then
  redis.call('PEXPIRE', KEYS[1], life)
end
local note = '+|' .. ARGV[4] .. '|' .. ARGV[1] .. '|' .. deadline .. '|' .. epoch
if KEYS[3] then
  leave_note(KEYS[3], note)
end
if ARGV[5] then
  publish(ARGV[5], 'n|' .. note)
end
return epoch
