-- One list per queue. An entry is "1|<expiry stamp, ms>|<epoch>|<names>|<payload>"; the first field is the version of this
-- format. Needs: clock. The names are those of several channels of one process, "specific.GV7Q2M4XKA!1,2,3", or of one channel.

-- What an entry begins with; names, "|" and payload follow.
local function entry_head(stamp, epoch)
  return string.format('1|%.0f|%s|', stamp, epoch)
end

-- Heads are looked at only when the queue is full: to read a head of 1 MiB just for its stamp costs everybody's server.
-- Returns whether there is room, and how many expired entries were dropped to make it. `life` is the caller's, in ms,
-- and `told` what he knows of the clock.
local function make_room(key, capacity, now, life, told)
  local length = redis.call('LLEN', key)
  local dropped = 0
  while length >= capacity do
    local stamp = tonumber(string.match(redis.call('LINDEX', key, 0), '^1|(%d+)|') or '')
    if not stamp or stamp > now then
      break
    end
    local judge = judge_by(told, now)
    -- Stamps of before the clock was set say nothing, but in `life` ms all of those are over.
    if stamp > judge.now or (stamp < judge.set_at and judge.now - judge.set_at <= life) then
      break
    end
    redis.call('LPOP', key)
    dropped = dropped + 1
    length = length - 1
  end
  return length < capacity, dropped
end

-- Puts an entry into a queue, by RPUSH or LPUSH. A key lives longer than its longest-lived entry, so that who reads late can count
-- what expired, and whatever the clock is set to (clock.lua). Never shortened, since senders may differ in their expiry.
local function push(command, key, entry, life)
  local key_life = 2 * life + SLACK_MS
  -- A queue that was empty is a new key, whose life need not be asked for.
  if redis.call(command, key, entry) == 1 or redis.call('PTTL', key) < key_life then
    redis.call('PEXPIRE', key, key_life)
  end
end
