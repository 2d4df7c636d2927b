-- The server's clock. It stamps what is to expire, and may be set by NTP or by hand. So it alone does not decide that something is
-- over: each caller tells what he knows of it.

-- Keys live longer than what they hold, so that nothing vanishes when the clock is set forward. What expires does so by its stamp.
local SLACK_MS = 3600000

local TOLERATED_MS = 500

local function server_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time
end

-- How to judge what is over: {now, shown = what the clock shows, known_since = since when the caller has seen it go evenly, or nil,
-- set_at = when it was last found set, or 0}. `told` is "<known since>|<set at>|<what the clock should show>", in ms, or nothing; for a "|" behind it see epoch.lua.
local function judge_by(told, now)
  local since, set_at, expected = string.match(told or '', '^(%d+)|(%d+)|(%d+)|?$')
  if not since then
    return {now = now, shown = now, set_at = 0}
  end
  expected = tonumber(expected)
  if now < expected - TOLERATED_MS then -- it was set back just now
    return {now = now, shown = now, known_since = now, set_at = now}
  end
  -- If it shows more, the call took long, or it was set forward just now. Either way, what was not over for the caller is not.
  return {now = math.min(now, expected), shown = now, known_since = tonumber(since), set_at = tonumber(set_at)}
end
