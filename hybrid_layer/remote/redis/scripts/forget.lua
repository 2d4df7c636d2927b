-- SPDX-License-Identifier: BSD-3-Clause
-- Ends the registration of a group by a machine, if no later one has taken its place.
--
-- KEYS  1 group
-- ARGV  1 "@MACHINE!"  2 its T  3 key of the members by part (members.lua)
-- Returns how many registrations were ended: 0 | 1
-- include:

local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then
  return 0
end
-- Not in KEYS: see group_discard.lua.
redis.pcall('DEL', ARGV[3])
return redis.call('ZREM', KEYS[1], ARGV[1])
