-- SPDX-License-Identifier: BSD-3-Clause
-- Notes report changes to a process's memberships by others, and flushes: "+|group|member|deadline|epoch",
-- "-|group|member", "f|epoch". The process reads them with its inbox or when it renews its alive key.
-- Needs: clock

local NOTES_KEPT, NOTES_LIFE_MS = 5000, 600000 + SLACK_MS

local function leave_note(key, note)
  redis.call('RPUSH', key, note)
  redis.call('LTRIM', key, -NOTES_KEPT, -1)
  redis.call('PEXPIRE', key, NOTES_LIFE_MS)
end
