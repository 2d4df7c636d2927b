-- SPDX-License-Identifier: BSD-3-Clause
-- Renews the alive key of a machine, which holds "<until>.<life>|<registration>|<inboxes>", and keeps its stream's key.
--
-- The registration is a number that stands for all that this server knows of the machine. Where that may be lost, the
-- server takes another one, which the caller drew at random. So the answer tells whether all is still known, and no key
-- is left with a number that no answer has told.
--
-- KEYS  1 alive  2 stream  3 epoch  4 the alive key of nobody (alive.lua)
-- ARGV  1 life in ms  2 "1" if the process has met this server before, else "0"  3 its knowledge of the clock (clock.lua)
--       4 the registration and  5 the run id that the machine knows, "0" and "" if none  6 a random registration
--       7 number of the machine's inboxes
-- Returns {the registration, run id, the stream's last id, epoch, seconds and microseconds of the server's clock}. Of the
-- run id these are the first 16 digits, or none where the server does not tell.
-- include: clock epoch alive renewal

local now, time = server_ms()
local life = tonumber(ARGV[1])
local values = redis.call('MGET', KEYS[1], KEYS[4], KEYS[3])

-- After a failover, the key may be there and the last registrations lost.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.sub(string.match(info, 'run_id:(%x+)') or '', 1, 16) or ''
local held = string.match(values[1] or '', '^%d+%.%d+|(%d+)|')
local is_known = held == ARGV[4] and held ~= '0' and run == ARGV[5] and was_renewed(values[1], now, life)
local registration = is_known and held or ARGV[6]
-- A process whose messages expire sooner must not shorten the life that another one has given to their machine.
local ends, longest = now + life, life
local other_ends, other_life = string.match(values[1] or '', '^(%d+)%.(%d+)|')
other_ends, other_life = tonumber(other_ends), tonumber(other_life)
if other_ends and other_ends > ends and other_life and other_ends <= now + other_life + TOLERATED_MS then
  ends, longest = other_ends, other_life
end
local value = string.format('%.0f.%.0f|%s|%s', ends, longest, registration, ARGV[7])
redis.call('SET', KEYS[1], value, 'PX', ends - now + SLACK_MS)
note_clock(KEYS[4], values[2], ARGV[3], now, life)

local last = '0-0'
if redis.call('TYPE', KEYS[2]).ok == 'stream' then
  local fields = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #fields, 2 do
    if fields[i] == 'last-generated-id' then
      last = fields[i + 1]
    end
  end
  if redis.call('PTTL', KEYS[2]) < life + SLACK_MS then
    redis.call('PEXPIRE', KEYS[2], life + SLACK_MS)
  end
end
return {registration, run, last, readable_epoch(KEYS[3], values[3], ARGV[2] == '1', life), time[1], time[2]}
