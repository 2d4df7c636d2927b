-- SPDX-License-Identifier: BSD-3-Clause
-- Tells what is in a queue or inbox, and what was counted of its channel. A machine's inbox is a stream, of which it
-- tells the length alone.
--
-- KEYS  1 queue or inbox  2 counts
-- ARGV  1 channel name
-- Returns {unread messages that have not expired, ms until the oldest of them expires or -1, sent, full}; the last two
-- are "" if the channel is not counted
-- include: clock

local counted = redis.call('HMGET', KEYS[2], 'sent|' .. ARGV[1], 'full|' .. ARGV[1])
local sent, full = counted[1] or '', counted[2] or ''
if redis.call('TYPE', KEYS[1]).ok == 'stream' then
  return {redis.call('XLEN', KEYS[1]), -1, sent, full}
end
local now, length = server_ms(), redis.call('LLEN', KEYS[1])
for i = 0, length - 1 do
  local stamp = tonumber(string.match(redis.call('LINDEX', KEYS[1], i), '^1|(%d+)|') or '')
  if stamp and stamp > now then
    return {length - i, stamp - now, sent, full}
  end
end
return {0, -1, sent, full}
