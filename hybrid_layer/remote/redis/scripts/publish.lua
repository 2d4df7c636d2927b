-- SPDX-License-Identifier: BSD-3-Clause
-- Publishes one message to the process of a process-specific channel.
--
-- KEYS  1 the pub/sub channel of the process  2 epoch
-- ARGV  1 payload  2 full channel name  3 expiry in ms
-- Returns {how many connections received it, epoch, seconds and microseconds of the server's clock}
-- include: clock epoch queue publish

local epoch = current_epoch(KEYS[2])
local now, time = server_ms()
local entry = entry_head(now + ARGV[3], epoch) .. ARGV[2] .. '|' .. ARGV[1]
prolong_epoch(KEYS[2], 0)
return {publish(KEYS[1], entry), epoch, time[1], time[2]}
