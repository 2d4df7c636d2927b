-- SPDX-License-Identifier: BSD-3-Clause
-- Returns an entry that was popped, but has no waiter, to the head of its queue, with its old stamp. Does not check the
-- capacity, which admitted the entry before, nor the stamp: the caller did, and knows when the clock was set.
--
-- KEYS  1 queue  2 epoch
-- ARGV  1 entry  2 its epoch  3 the rest of its life in ms
-- Returns 1 put back | -1 flushed meanwhile
-- include: clock epoch queue

local epoch = current_epoch(KEYS[2])
if ARGV[2] ~= epoch and string.match(ARGV[2], '^(.*):') == string.match(epoch, '^(.*):') then
  return -1
end
push('LPUSH', KEYS[1], ARGV[1], tonumber(ARGV[3]))
prolong_epoch(KEYS[2], tonumber(ARGV[3]))
return 1
