-- SPDX-License-Identifier: BSD-3-Clause
-- What processes have counted: a hash of sums, by "<counter>", or by "sent|<channel>" and "full|<channel>" of a normal
-- channel, or of all others together. Each report has a number, and is added once, however often it arrives, and however
-- late: also behind the next one, by another connection.

local COUNTS_MS = 2 * 86400000
local MOST_FIELDS = 1024

-- Adds the report in ARGV, which begins at `first` with its number; then come field and number by turns. `reported` is
-- where the number of the process's last report is.
local function add_report(counts, reported, first)
  local number = ARGV[first]
  if not number or (tonumber(redis.call('GET', reported) or '') or 0) >= tonumber(number) then
    return
  end
  local length = redis.call('HLEN', counts)
  for i = first + 1, #ARGV, 2 do
    local field = ARGV[i]
    local kind = string.match(field, '^(%a+)|')
    if kind and length >= MOST_FIELDS and redis.call('HEXISTS', counts, field) == 0 then
      field = kind .. '|'
    end
    redis.call('HINCRBY', counts, field, ARGV[i + 1])
  end
  redis.call('PEXPIRE', counts, COUNTS_MS)
  redis.call('SET', reported, number, 'PX', COUNTS_MS)
end
