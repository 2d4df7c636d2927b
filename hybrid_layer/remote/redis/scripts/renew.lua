-- SPDX-License-Identifier: BSD-3-Clause
-- Renews the alive key of a process and returns the notes that others left for it.
--
-- KEYS  1 alive  2 notes  3 epoch  4 the alive key of nobody (alive.lua)  5 counts and  6 the number of the process's
--       last report (counts.lua), or neither
-- ARGV  1 life in ms  2 "1" if the process has met this server before, else "0"  3 its knowledge of the clock (clock.lua)
--       4 a report (counts.lua), or nothing
-- Returns {1 if it may have counted as dead | 0, epoch, seconds and microseconds of the server's clock, note...}
-- include: clock epoch alive renewal counts

local now, time = server_ms()
local life = tonumber(ARGV[1])
local values = redis.call('MGET', KEYS[1], KEYS[4] or KEYS[1], KEYS[3])
local in_time = was_renewed(values[1], now, life)
redis.call('SET', KEYS[1], string.format('%.0f.%s', now + life, ARGV[1]), 'PX', life + SLACK_MS)

note_clock(KEYS[4], values[2], ARGV[3], now, life)
add_report(KEYS[5], KEYS[6], 4)
local notes = redis.call('LRANGE', KEYS[2], 0, -1)
if #notes > 0 then
  redis.call('DEL', KEYS[2])
end
local epoch = readable_epoch(KEYS[3], values[3], ARGV[2] == '1', life)
return {in_time and 0 or 1, epoch, time[1], time[2], unpack(notes)}
