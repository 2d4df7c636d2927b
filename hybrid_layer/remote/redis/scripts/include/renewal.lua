-- SPDX-License-Identifier: BSD-3-Clause
-- What renewals of processes and of machines have in common.
-- Needs: clock epoch alive

-- Whether the value of an alive key shows that it was renewed in time, so that it never counted as dead.
local function was_renewed(value, now, life)
  return lives(value, now, life) or doubts().renewed(value or '', judge_by('', now)) == 'in time'
end

-- Notes in the alive key of nobody what the caller knows of the clock. `value` is what is there.
local function note_clock(key, value, known, now, life)
  local judge = judge_by(known, now)
  local known_since = judge.known_since
  if now - judge.now > TOLERATED_MS or known_since == now then
    redis.call('DEL', key)
  elseif known_since then
    local since, last = string.match(value or '', '^(%d+)|(%d+)$')
    since, last = tonumber(since), tonumber(last)
    if not since or last > now or last < known_since then
      since = known_since
      last = 0
    end
    if since > known_since or now - last >= life / 20 then -- else another process has just written it
      redis.call('SET', key, string.format('%.0f|%.0f', math.min(since, known_since), now), 'PX', life + SLACK_MS)
    end
  end
end

-- Returns the epoch and prolongs its key. `value` is what is there; `has_met` is whether the caller has met this server
-- before.
local function readable_epoch(key, value, has_met, life)
  local epoch = value or current_epoch(key, has_met)
  local flushes = string.match(epoch, '^.+:(%d+)$')
  if not flushes or #flushes > 15 then -- a foreign value: under it, no process could read what is stored
    redis.call('DEL', key)
    epoch = current_epoch(key, has_met)
  end
  prolong_epoch(key, life)
  return epoch
end
