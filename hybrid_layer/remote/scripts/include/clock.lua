-- The server's clock: the only one that decides about expiry.

local function server_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function as_text(ms)
  return string.format('%.0f', ms)
end
