-- Pub/sub. Returns how many processes heard it.

local function publish(channel, text)
  return redis.call('PUBLISH', channel, text)
end
