-- Renews the alive key of a process and returns the notes that others left for it.
--
-- KEYS  1 alive  2 notes  3 epoch  4 the alive key of nobody (alive.lua)
-- ARGV  1 life in ms  2 "1" if the process has met this server before, else "0"  3 its knowledge of the clock (clock.lua)
-- Returns {1 if it may have counted as dead | 0, epoch, seconds and microseconds of the server's clock, note...}
-- include: clock epoch alive

local now, time = server_ms()
local life = tonumber(ARGV[1])
local values = redis.call('MGET', KEYS[1], KEYS[4] or KEYS[1], KEYS[3])
local in_time = lives(values[1], now, life) or doubts().renewed(values[1] or '', judge_by('', now)) == 'in time'
redis.call('SET', KEYS[1], string.format('%.0f.%s', now + life, ARGV[1]), 'PX', life + SLACK_MS)

local judge = judge_by(ARGV[3], now)
local known_since = judge.known_since
if now - judge.now > TOLERATED_MS or known_since == now then
  redis.call('DEL', KEYS[4])
elseif known_since then
  local since, last = string.match(values[2] or '', '^(%d+)|(%d+)$')
  since, last = tonumber(since), tonumber(last)
  if not since or last > now or last < known_since then
    since = known_since
    last = 0
  end
  if since > known_since or now - last >= life / 20 then -- else another process has just written it
    redis.call('SET', KEYS[4], string.format('%.0f|%.0f', math.min(since, known_since), now), 'PX', life + SLACK_MS)
  end
end

local notes = redis.call('LRANGE', KEYS[2], 0, -1)
if #notes > 0 then
  redis.call('DEL', KEYS[2])
end
local epoch = values[3] or current_epoch(KEYS[3], ARGV[2] == '1')
local flushes = string.match(epoch, '^.+:(%d+)$')
if not flushes or #flushes > 15 then -- a foreign value: under it, no process could read what is stored
  redis.call('DEL', KEYS[3])
  epoch = current_epoch(KEYS[3], ARGV[2] == '1')
end
prolong_epoch(KEYS[3], life)
return {in_time and 0 or 1, epoch, time[1], time[2], unpack(notes)}
