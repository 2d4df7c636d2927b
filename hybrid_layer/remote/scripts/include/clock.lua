-- The server's clock: the only one that decides about expiry.

local function as_ms(time)
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function server_ms()
  return as_ms(redis.call('TIME'))
end

local function as_text(ms)
  return string.format('%.0f', ms)
end
