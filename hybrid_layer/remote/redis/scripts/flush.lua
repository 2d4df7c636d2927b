-- SPDX-License-Identifier: BSD-3-Clause
-- Ends a flush, after the keys were deleted. Advances the epoch, so that processes drop what they have already read,
-- and publishes it.
--
-- KEYS  1 epoch
-- ARGV  1 the pub/sub channel of the epoch; absent if no process subscribes to it
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
