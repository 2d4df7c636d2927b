-- SPDX-License-Identifier: BSD-3-Clause
-- One list per queue. An entry is "1|<expiry stamp, ms>|<epoch>|<names>|<payload>"; the first field is the version of
-- this format. The names are those of one channel, or of several channels of one process, "specific.GV7Q2M4XKA!1,2,3".
-- Needs: clock

-- The begin of an entry. Names, "|" and payload follow.
local function entry_head(stamp, epoch)
  return string.format('1|%.0f|%s|', stamp, epoch)
end

-- Whether an entry at the head of a full queue has expired, so that it may be dropped. `life` is the caller's expiry in
-- ms, and `known` the caller's knowledge of the clock.
local function has_expired(entry, now, life, known)
  local stamp = tonumber(string.match(entry, '^1|(%d+)|') or '')
  if not stamp or stamp > now then
    return false
  end
  local judge = judge_by(known, now)
  -- Stamps from before the clock was set are meaningless, but `life` ms later all of them have expired.
  return stamp <= judge.now and (stamp >= judge.set_at or judge.now - judge.set_at > life)
end

-- Reads the head only if the queue is full: reading a head of 1 MiB just for its stamp burdens a shared server. Returns
-- whether there is room, and how many expired entries were dropped to make it.
local function make_room(key, capacity, now, life, known)
  local length = redis.call('LLEN', key)
  local dropped = 0
  while length >= capacity and has_expired(redis.call('LINDEX', key, 0), now, life, known) do
    redis.call('LPOP', key)
    dropped = dropped + 1
    length = length - 1
  end
  return length < capacity, dropped
end

-- Puts an entry into a queue, by RPUSH or LPUSH. The key lives longer than its entries, so that a late reader can count
-- what expired, and so that nothing vanishes when the clock is set (clock.lua). Its life is never shortened, since
-- senders may differ in their expiry.
local function push(command, key, entry, life)
  local key_life = 2 * life + SLACK_MS
  -- A queue that was empty is a new key, so its life need not be checked.
  if redis.call(command, key, entry) == 1 or redis.call('PTTL', key) < key_life then
    redis.call('PEXPIRE', key, key_life)
  end
end
