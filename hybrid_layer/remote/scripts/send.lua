-- Stores one message in the queue of a normal channel or in an inbox.
--
-- KEYS  1 queue  2 epoch  3 the alive key of the inbox's process; absent for a normal channel
-- ARGV  1 payload  2 full channel name  3 capacity  4 expiry in ms
-- Returns {0 stored | 1 full | 2 the process is gone, number of expired entries that were dropped to make room, epoch}
-- include: clock epoch queue

-- The name of a process-specific channel was made after the epoch.
local epoch = current_epoch(KEYS[2], KEYS[3] ~= nil)
local now, life = server_ms(), tonumber(ARGV[4])
if KEYS[3] and redis.call('EXISTS', KEYS[3]) == 0 and not may_not_have_renewed(epoch, now) then
  return {2, 0, epoch}
end
local room, dropped = make_room(KEYS[1], tonumber(ARGV[3]), now)
if not room then
  return {1, dropped, epoch}
end
append(KEYS[1], new_entry(now + life, epoch, ARGV[2], ARGV[1]), life)
return {0, dropped, epoch}
