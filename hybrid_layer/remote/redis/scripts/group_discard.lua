-- SPDX-License-Identifier: BSD-3-Clause
-- Ends a membership, on the shard of the group.
--
-- KEYS  1 group  2 the notes of the member's process; absent if the caller records the membership
-- ARGV  1 member  2 group name  3 key of the members by part (members.lua)
--       4 the pub/sub channel of the member's process; absent if it is not notified that way
-- Returns the number of memberships that were ended: 0 | 1
-- include: clock notes publish

local note = '-|' .. ARGV[2] .. '|' .. ARGV[1]
if KEYS[2] then
  leave_note(KEYS[2], note)
end
if ARGV[4] then
  publish(ARGV[4], 'n|' .. note)
end
-- Not in KEYS, or no membership could be ended while a slot of a cluster moves. If this key has moved already, the
-- member may get messages for another minute.
redis.pcall('DEL', ARGV[3])
return redis.call('ZREM', KEYS[1], ARGV[1])
