-- SPDX-License-Identifier: BSD-3-Clause
-- Makes a channel that is on a machine a member of a group, for another process: registers the group for the machine, and
-- leaves a note about the membership. What is sent to the group from now on comes behind the note, if that is in the
-- same stream: on the shard of the group.
--
-- KEYS  1 group  2 epoch  3 the members by part (members.lua)  4 the machine's alive key  5 its stream
-- ARGV  1 the channel  2 life of the membership in ms  3 life of the registration in ms  4 group name
--       5 the incarnation of data that the caller met first here  6 "@MACHINE!"  7 capacity of the channel
-- Returns {1 added | 0 the machine is gone, or does not read, epoch}
-- include: clock epoch alive queue stream registration

local epoch, now, life = current_epoch(KEYS[2]), server_ms(), tonumber(ARGV[2])
if is_gone_for_others(KEYS[4], epoch, ARGV[5], now, life) then
  return {0, epoch}
end
local value = redis.call('MGET', KEYS[4])[1]
local note = '+|' .. ARGV[4] .. '|' .. ARGV[1] .. '|' .. string.format('%.0f', now + life) .. '|' .. epoch
if not streams().append_note(KEYS[5], note, value, tonumber(ARGV[7])) then
  return {0, epoch}
end
registrations().register(KEYS[1], KEYS[3], ARGV[6], now, tonumber(ARGV[3]), 0)
prolong_epoch(KEYS[2], 0)
return {1, epoch}
