-- SPDX-License-Identifier: BSD-3-Clause
-- The server's clock. It stamps what expires, but NTP or an operator may set it. So it does not decide alone whether a
-- stamp is past: each caller passes its own knowledge of the clock.

-- Keys live longer than their contents, so that nothing vanishes when the clock is set forward. Contents expire by
-- stamp.
local SLACK_MS = 3600000

local TOLERATED_MS = 500

local function server_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time
end

-- How to judge stamps: {now, shown = the server's clock, known_since = since when the caller has seen the clock run
-- evenly, or nil, set_at = when the clock was last noticed to be set, or 0}. `known`, from the caller, is "<known
-- since>|<set at>|<what the clock should show>", in ms, or nothing. For a "|" behind it, see epoch.lua.
local function judge_by(known, now)
  local since, set_at, expected = string.match(known or '', '^(%d+)|(%d+)|(%d+)|?$')
  if not since then
    return {now = now, shown = now, set_at = 0}
  end
  expected = tonumber(expected)
  if now < expected - TOLERATED_MS then -- it was just set back
    return {now = now, shown = now, known_since = now, set_at = now}
  end
  -- If it shows more, the call took long, or the clock was just set forward. Either way, a stamp that was not past for
  -- the caller is not past here.
  return {now = math.min(now, expected), shown = now, known_since = tonumber(since), set_at = tonumber(set_at)}
end
