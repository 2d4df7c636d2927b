-- Gives one message to the process of a process-specific channel, if it listens.
--
-- KEYS  1 the pub/sub channel of the process  2 epoch
-- ARGV  1 payload  2 full channel name  3 expiry in ms
-- Returns {1 if the process heard it | 0, epoch}
-- include: clock epoch queue publish

local epoch = current_epoch(KEYS[2])
local entry = new_entry(server_ms() + tonumber(ARGV[3]), epoch, ARGV[2], ARGV[1])
return {math.min(1, publish(KEYS[1], entry)), epoch}
