-- SPDX-License-Identifier: BSD-3-Clause
-- Lists the members of a group that this server knows, without those whose process is gone.
--
-- KEYS  1 group  2 epoch
-- ARGV  1 begin of all keys  2 expiry in ms  3 the caller's knowledge of the clock (clock.lua), or ""
-- Returns {member...}: channels, and "@MACHINE!" for a machine
-- include: clock epoch alive queue stream registration members

local refusal = refusal_while_moving(ARGV[1])
if refusal then
  return refusal
end
local epoch, now, found = current_epoch(KEYS[2]), server_ms(), {}
local members = members_by_part(KEYS[1], ARGV[1], epoch, now)
for _, part in ipairs((living_and_gone(KEYS[1], members, ARGV[1], epoch, now, tonumber(ARGV[2]), ARGV[3]))) do
  for name in string.gmatch(string.sub(members.names_of[part], #part + 1) .. ',', '([^,]*),') do
    found[#found + 1] = part .. name
  end
end
return found
