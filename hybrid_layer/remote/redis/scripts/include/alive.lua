-- Which processes live. The alive key of a process holds "<until>.<life>": the stamp at which it counts as dead unless it renews
-- it, and for how many ms it is renewed. A process renews it three times in its life.
-- Needs: clock epoch

-- Whether the value of an alive key, as one number, says that it was renewed in time, as it nearly always is. A false says nothing.
local function lives(value, now, life)
  local ends = value and tonumber(value)
  return ends and ends > now and (ends < now + life or ends < now + 1000)
end

-- What is needed only when that is in doubt, lest it be made for each message.
local function doubts()
  -- How an alive key was renewed: 'in time', 'late', or 'ahead' if the clock was set back since. Returns its life too.
  local function renewed(value, judge)
    local stamp, life = string.match(value, '^(%d+)%.(%d+)$')
    stamp, life = tonumber(stamp), tonumber(life)
    if not stamp or stamp <= judge.now then
      return 'late', life
    end
    return stamp - life <= judge.shown + TOLERATED_MS and 'in time' or 'ahead', life
  end

  -- Whether the server lost its data so recently that a process without an alive key may just not have renewed it yet.
  local function may_not_have_renewed(epoch, now)
    local GRACE_MS = 10000
    local since = string.match(epoch, '^L(%d+)-')
    return since ~= nil and now - since * 1000 < GRACE_MS
  end

  -- The text in a key, or an empty one.
  local function text_of(key)
    local value = redis.pcall('GET', key)
    return type(value) == 'string' and value or ''
  end

  -- Since when the clock has gone evenly, by what the caller has seen, or those who renew their keys here and write that down:
  -- "<since>|<last renewal>", in the alive key of nobody.
  local function known_since(base, judge, life)
    local since, last = string.match(text_of(base .. 'alive|'), '^(%d+)|(%d+)$')
    since, last = tonumber(since), tonumber(last)
    if since and last <= judge.now and judge.now - last <= life / 2 and judge.set_at <= since then
      return math.min(since, judge.known_since or since)
    end
    return judge.known_since
  end

  -- Returns whether a process is gone. That its key was not renewed says so only to who has seen the clock go evenly for as long
  -- as that should have taken, or to whom those who renew have written so. To others the clock may have been set forward:
  -- 'perhaps', then the process gets messages, but they are counted as those of a dead one.
  -- `value` is what its alive key holds, if that is a string.
  local function is_gone(value, key, base, epoch, now, told)
    local judge = judge_by(told, now)
    if type(value) ~= 'string' then -- or a stranger's, which the next renewal removes
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
