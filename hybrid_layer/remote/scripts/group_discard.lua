-- Ends a membership, on the shard of the member.
--
-- KEYS  1 group  2 the members by part (members.lua)  3 the notes of the member's process; absent when the caller itself keeps the membership
-- ARGV  1 member  2 group name  3 the pub/sub channel of the member's process, if it is told that way
-- Returns the number of memberships that were there: 0 | 1
-- include: notes publish

local note = '-|' .. ARGV[2] .. '|' .. ARGV[1]
if KEYS[3] then
  leave_note(KEYS[3], note)
end
if ARGV[3] then
  publish(ARGV[3], 'n|' .. note)
end
redis.call('DEL', KEYS[2])
return redis.call('ZREM', KEYS[1], ARGV[1])
