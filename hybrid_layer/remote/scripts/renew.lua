-- Renews the alive key of a process and hands over the notes that others left for it.
--
-- KEYS  1 alive  2 notes  3 epoch
-- ARGV  1 life in ms  2 "1" if the process was known to the server before, else "0"
-- Returns {1 if the key was gone | 0, epoch, seconds and microseconds of the server's clock, note...}
-- include: epoch

local gone = 1 - redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
local notes = redis.call('LRANGE', KEYS[2], 0, -1)
redis.call('DEL', KEYS[2])
local now = redis.call('TIME')
return {gone, current_epoch(KEYS[3], ARGV[2] == '1'), now[1], now[2], unpack(notes)}
