-- Puts an entry that was popped, and that nobody took, back to the head of its queue, with its old stamp. The capacity is
-- not checked: the entry has been admitted once.
--
-- KEYS  1 queue  2 epoch
-- ARGV  1 entry  2 its epoch
-- Returns 1 put back | 0 expired meanwhile | -1 flushed meanwhile
-- include: clock epoch queue

if was_flushed(ARGV[2], current_epoch(KEYS[2])) then
  return -1
end
local left = (stamp_of(ARGV[1]) or 0) - server_ms()
if left <= 0 then
  return 0
end
redis.call('LPUSH', KEYS[1], ARGV[1])
prolong(KEYS[1], left)
return 1
