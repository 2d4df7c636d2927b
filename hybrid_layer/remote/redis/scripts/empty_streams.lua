-- SPDX-License-Identifier: BSD-3-Clause
-- Empties the streams of machines, for a flush. A stream's key stays, as it keeps the last id: later ids must be higher.
--
-- KEYS  1.. streams
-- ARGV  none
-- Returns how many keys that were
-- include:

for _, key in ipairs(KEYS) do
  if type(redis.pcall('XTRIM', key, 'MAXLEN', 0)) == 'table' then -- a foreign value
    redis.call('DEL', key)
  end
end
return #KEYS
