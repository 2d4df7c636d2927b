-- SPDX-License-Identifier: BSD-3-Clause
-- Leaves a note for a machine, unless that is gone.
--
-- KEYS  1 the machine's stream  2 its alive key  3 epoch
-- ARGV  1 note  2 capacity of a channel
-- Returns 1 left | 0 the machine is gone, or does not read
-- include: clock epoch alive queue stream

if is_gone_for_others(KEYS[2], current_epoch(KEYS[3]), '', server_ms(), math.huge) then
  return 0
end
return streams().append_note(KEYS[1], ARGV[1], redis.call('MGET', KEYS[2])[1], tonumber(ARGV[2])) and 1 or 0
