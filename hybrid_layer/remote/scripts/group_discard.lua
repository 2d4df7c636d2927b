-- Ends a membership, on the shard of the member.
--
-- KEYS  1 group  2 the notes of the member's process; absent when the caller itself keeps the membership
-- ARGV  1 member  2 group name
-- Returns the number of memberships that were there: 0 | 1
-- include: notes

if KEYS[2] then
  leave_note(KEYS[2], '-|' .. ARGV[2] .. '|' .. ARGV[1])
end
return redis.call('ZREM', KEYS[1], ARGV[1])
