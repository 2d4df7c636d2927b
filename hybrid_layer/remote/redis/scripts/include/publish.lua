-- Pub/sub. Returns how many processes heard it. The names in a cluster have a hash tag, and there only the node of its
-- slot is to hear of it.

local function publish(channel, text)
  local command = string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH'
  return redis.call(command, channel, text)
end
