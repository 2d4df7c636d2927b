-- Renews the alive key of a process and hands over the notes that others left for it.
--
-- KEYS  1 alive  2 notes  3 epoch  4 the alive key of nobody (alive.lua)
-- ARGV  1 life in ms  2 "1" if the process was known to the server before, else "0"  3 what it knows of the clock (clock.lua)
-- Returns {1 if it may have counted as dead | 0, epoch, seconds and microseconds of the server's clock, note...}
-- include: clock epoch alive

local time = redis.call('TIME')
local now, life = as_ms(time), tonumber(ARGV[1])
local doubts = doubts()
local text_of = doubts.text_of
local gone = doubts.renewed(text_of(KEYS[1]), judge_by('', now)) == 'in time' and 0 or 1
redis.call('SET', KEYS[1], as_text(now + life) .. '.' .. ARGV[1], 'PX', life + SLACK_MS)

local judge = judge_by(ARGV[3], now)
if now - judge.now > TOLERATED_MS or judge.known_since == now then
  redis.call('DEL', KEYS[4])
elseif judge.known_since then
  local since, last = string.match(text_of(KEYS[4]), '^(%d+)|(%d+)$')
  since, last = tonumber(since), tonumber(last)
  if not since or last > now or last < judge.known_since then
    since = judge.known_since
  end
  since = math.min(since, judge.known_since)
  redis.call('SET', KEYS[4], as_text(since) .. '|' .. as_text(now), 'PX', life + SLACK_MS)
end

local notes = redis.call('LRANGE', KEYS[2], 0, -1)
redis.call('DEL', KEYS[2])
local epoch = current_epoch(KEYS[3], ARGV[2] == '1')
local flushes = string.match(epoch, '^.+:(%d+)$')
if not flushes or #flushes > 15 then -- a stranger's, under which nobody could read what is stored
  redis.call('DEL', KEYS[3])
  epoch = current_epoch(KEYS[3], ARGV[2] == '1')
end
prolong_epoch(KEYS[3], life)
return {gone, epoch, time[1], time[2], unpack(notes)}
