-- Ends a flush, after the keys were unlinked: moves the epoch, so that others drop what they had already taken in, and
-- tells those who listen.
--
-- KEYS  1 epoch
-- ARGV  1 the pub/sub channel of the epoch, if processes listen
-- Returns the new epoch
-- include: epoch publish

local incarnation, flushes = string.match(current_epoch(KEYS[1]), '^(.*):(%d+)$')
local epoch = incarnation .. ':' .. string.format('%.0f', flushes + 1)
redis.call('SET', KEYS[1], epoch, 'KEEPTTL')
prolong_epoch(KEYS[1], 0)
if ARGV[1] then
  publish(ARGV[1], epoch)
end
return epoch
