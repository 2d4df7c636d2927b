-- SPDX-License-Identifier: BSD-3-Clause
-- Adds a process's report to what all have counted, and returns the sums.
--
-- KEYS  1 counts  2 the number of the process's last report
-- ARGV  1 the report: its number, then field and number by turns; or nothing
-- Returns {field, number...}
-- include: counts

add_report(KEYS[1], KEYS[2], 1)
return redis.call('HGETALL', KEYS[1])
