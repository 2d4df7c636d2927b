-- SPDX-License-Identifier: BSD-3-Clause
-- Ends a reader's blocking pop: the one under way, or the next one.
--
-- KEYS  1 wake key
-- ARGV  1 life in ms
-- Returns 1
-- include:

if redis.call('LLEN', KEYS[1]) == 0 then
  redis.call('RPUSH', KEYS[1], 'w')
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
