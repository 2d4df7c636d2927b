-- SPDX-License-Identifier: BSD-3-Clause
-- The flush epoch, "<incarnation>:<flushes>". Another incarnation means that the server lost its data, which is no
-- flush.

-- It expires when the server was not used for a day or two, so that old prefixes leave nothing behind; but not before
-- the entries that carry it: their keys live for twice the expiry and an hour.
local DAY_MS = 86400000

-- Called last, since a full server refuses a script only at its first write. `life` is the life of what was stored, in
-- ms. `known` is the caller's knowledge of the clock, or nothing. It ends with "|" if a call without the "|", less than
-- six hours ago, prolonged the epoch. Then the epoch lives for at least another 18 hours, longer than what lives for
-- six.
local function prolong_epoch(key, life, known)
  if known and life <= DAY_MS / 4 and string.byte(known, -1) == 124 then
    return
  end
  local least = DAY_MS + 2 * life
  if redis.call('PTTL', key) < least then
    redis.call('PEXPIRE', key, 2 * least)
  end
end

-- `lost`: the caller knows of earlier data. If there is no epoch, they were lost, and the new incarnation begins with
-- "L".
local function current_epoch(key, lost)
  local epoch = redis.call('GET', key)
  if not epoch then
    local now = redis.call('TIME')
    epoch = (lost and 'L' or '') .. now[1] .. '-' .. now[2] .. ':0'
    redis.call('SET', key, epoch, 'PX', 2 * DAY_MS)
  end
  return epoch
end
