-- The flush epoch, "<incarnation>:<flushes>". Another incarnation means that the server lost its data, which is no flush.

-- It ends when nobody has used the server for a day or two, so that prefixes of the past leave nothing behind; but not before what
-- carries it: keys with entries live for twice the expiry and an hour.
local DAY_MS = 86400000

-- Called last, since a full server refuses a script at its first write alone. `life` is that of what was stored, in ms. `told` is
-- what the caller knows of the clock, or nothing. It ends with "|" if his last call without that, less than six hours ago, did this:
-- then the epoch has 18 hours left at least, and what lives for six hours ends before.
local function prolong_epoch(key, life, told)
  if told and life <= DAY_MS / 4 and string.byte(told, -1) == 124 then
    return
  end
  local least = DAY_MS + 2 * life
  if redis.call('PTTL', key) < least then
    redis.call('PEXPIRE', key, 2 * least)
  end
end

-- `lost` says that the caller knows of earlier data, so that without an epoch they must have been lost; the incarnation
-- then begins with "L".
local function current_epoch(key, lost)
  local epoch = redis.call('GET', key)
  if not epoch then
    local now = redis.call('TIME')
    epoch = (lost and 'L' or '') .. now[1] .. '-' .. now[2] .. ':0'
    redis.call('SET', key, epoch, 'PX', 2 * DAY_MS)
  end
  return epoch
end
