-- SPDX-License-Identifier: BSD-3-Clause
-- Registers a group: it has members on a machine (registration.lua). On the shard of the group.
--
-- KEYS  1 group  2 epoch  3 the members by part (members.lua)
-- ARGV  1 "@MACHINE!"  2 life in ms  3 the highest T that the machine ever gave to forget on this shard
-- Returns {T, epoch, the server's clock in ms}
-- include: clock epoch registration

local epoch, now = current_epoch(KEYS[2]), server_ms()
local t = registrations().register(KEYS[1], KEYS[3], ARGV[1], now, tonumber(ARGV[2]), tonumber(ARGV[3]))
prolong_epoch(KEYS[2], 0)
return {t, epoch, now}
