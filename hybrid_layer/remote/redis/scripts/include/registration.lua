-- SPDX-License-Identifier: BSD-3-Clause
-- Registrations: a group has members on a machine, which keeps them itself. At the group's home the machine is the member
-- "@MACHINE!" until T, by the server's clock in ms. T also names the registration, so no T is given twice: not after the
-- clock was set back, and not after the machine forgot it. A record of a registration, on the machine, is void for good
-- once its T was given to forget.
-- Needs: clock

-- Functions that are needed only for machines, so that they are not created for each message.
local function registrations()
  -- No T that this layer gives is as large. From here on the next T could not be told from it, or be read.
  local STRANGE = 1e14

  -- The T of a registration, 0 if somebody else wrote it, nil if there is none.
  local function t_of(group, member)
    local score = redis.call('ZSCORE', group, member)
    if not score then
      return nil
    end
    local t = tonumber(score)
    return t and t > 0 and t < STRANGE and math.floor(t) or 0
  end

  -- Registers `member` for at least `life` ms. Returns T.
  local function register(group, parts, member, now, life, forgotten)
    forgotten = forgotten < STRANGE and forgotten or 0
    local t = math.max((t_of(group, member) or 0) + 1, forgotten + 1, now + life)
    if redis.call('ZADD', group, string.format('%.0f', t), member) > 0 then
      redis.call('DEL', parts) -- the members by part (members.lua)
    end
    local key_life = t - now + SLACK_MS
    if redis.call('PTTL', group) < key_life then
      redis.call('PEXPIRE', group, string.format('%.0f', key_life))
    end
    return t
  end

  return {t_of = t_of, register = register}
end
