-- Ends a flush, after the keys were unlinked: moves the epoch, so that others drop what they had already popped.
--
-- KEYS  1 epoch
-- ARGV  none
-- Returns the new epoch
-- include: epoch

local incarnation, flushes = string.match(current_epoch(KEYS[1]), '^(.*):(%d+)$')
local epoch = incarnation .. ':' .. string.format('%.0f', flushes + 1)
redis.call('SET', KEYS[1], epoch)
return epoch
