-- The flush epoch, "<incarnation>:<flushes>". Another incarnation means that the server lost its data, which is no flush.

local function current_epoch(key)
  local epoch = redis.call('GET', key)
  if not epoch then
    local now = redis.call('TIME')
    epoch = now[1] .. '-' .. now[2] .. ':0'
    redis.call('SET', key, epoch)
  end
  return epoch
end

local function was_flushed(old, current)
  local old_incarnation = string.match(old, '^(.*):')
  return old ~= current and old_incarnation == string.match(current, '^(.*):')
end
