-- SPDX-License-Identifier: BSD-3-Clause
-- Which processes and machines live. The alive key of a process holds "<until>.<life>": the stamp at which the process
-- counts as dead unless it renews the key, and the ms for which it renews it. A process renews it three times in that
-- life. That of a machine holds "<until>.<life>|<registration>|<inboxes>" (renew_machine.lua).
-- Needs: clock epoch

-- Whether the value of an alive key, its begin as one number, shows that it was renewed in time. Nearly always true. If
-- not, `doubts` decides.
local function lives(value, now, life)
  local ends = value and (tonumber(value) or tonumber(string.match(value, '^(%d+%.%d+)|')))
  return ends and ends > now and (ends < now + life or ends < now + 1000)
end

-- Functions that are needed only in doubt, so that they are not created for each message.
local function doubts()
  -- How an alive key was renewed: 'in time', 'late', or 'ahead' if the clock was set back since. Also returns its life.
  local function renewed(value, judge)
    local stamp, life = string.match(value .. '|', '^(%d+)%.(%d+)|')
    stamp, life = tonumber(stamp), tonumber(life)
    if not stamp or stamp <= judge.now then
      return 'late', life
    end
    return stamp - life <= judge.shown + TOLERATED_MS and 'in time' or 'ahead', life
  end

  -- Whether the server lost its data so recently that a process may not have renewed its alive key yet.
  local function may_not_have_renewed(epoch, now)
    local GRACE_MS = 10000
    local since = string.match(epoch, '^L(%d+)-')
    return since ~= nil and now - since * 1000 < GRACE_MS
  end

  -- The text in a key, or "".
  local function text_of(key)
    local value = redis.pcall('GET', key)
    return type(value) == 'string' and value or ''
  end

  -- Since when the clock has run evenly: as observed by the caller, or by the processes that renew their keys here.
  -- They write "<since>|<last renewal>" into the alive key of nobody.
  local function known_since(base, judge, life)
    local since, last = string.match(text_of(base .. 'alive|'), '^(%d+)|(%d+)$')
    since, last = tonumber(since), tonumber(last)
    if since and last <= judge.now and judge.now - last <= life / 2 and judge.set_at <= since then
      return math.min(since, judge.known_since or since)
    end
    return judge.known_since
  end

  -- Returns whether a process is gone. A key that was not renewed proves that only if the clock has run evenly for the
  -- life of the key, as observed by the caller or by the processes that renew their keys. Otherwise, the clock may have
  -- been set forward, and the result is 'perhaps': the process gets messages, but they are counted as those of a dead
  -- one. `value` is the value of its alive key, if that is a string.
  local function is_gone(value, key, base, epoch, now, known)
    local judge = judge_by(known, now)
    if type(value) ~= 'string' then -- missing, or a foreign value, which the next renewal replaces
      return redis.call('EXISTS', key) == 0 and not may_not_have_renewed(epoch, judge.now)
    end
    local when, life = renewed(value, judge)
    if when == 'in time' or not life then
      return false
    end
    local since = known_since(base, judge, life)
    if since and judge.now - since > life then
      return true
    end
    if when == 'ahead' or judge.set_at > 0 then
      return false
    end
    return 'perhaps'
  end

  return {renewed = renewed, is_gone = is_gone}
end

-- Whether nothing can be added to a group for the process or machine whose alive key this is, as it is gone. `first` is
-- the incarnation of data that the caller met first on this server: if that is another one, the server may have lost
-- its data so recently that the key was not renewed yet.
local function is_gone_for_others(key, epoch, first, now, life)
  local GRACE_MS = 10000
  local value = redis.call('MGET', key)[1] -- not GET, which refuses a foreign value
  if lives(value, now, life) then
    return false
  end
  local incarnation, since = string.match(epoch, '^(L?(%d+)%-.*):')
  if first ~= '' and incarnation ~= nil and incarnation ~= first and now - since * 1000 < GRACE_MS then
    return false
  end
  return doubts().is_gone(value, key, string.match(key, '^(.*)alive|'), epoch, now) == true
end
