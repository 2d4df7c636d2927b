-- Ends group_send.lua at once where nobody but the sender's own machine has members: then there is nothing to do here, and
-- that is so for most messages within a machine. It stands in front of all else, as each function that a script creates
-- costs the server time.

if ARGV[6] ~= '' and redis.call('ZCARD', KEYS[1]) < 2 then
  local epoch = redis.call('GET', KEYS[2])
  if epoch and (redis.call('ZSCORE', KEYS[1], ARGV[6]) or redis.call('EXISTS', KEYS[1]) == 0) then
    return {0, 0, 0, 0, epoch, 0}
  end
end
