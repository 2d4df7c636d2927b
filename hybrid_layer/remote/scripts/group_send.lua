-- Gives one message to every member of a group whose inbox lies on this shard: one entry per inbox or normal channel.
-- The keys of the inboxes are derived from the members, which by construction share the shard.
--
-- KEYS  1 group  2 epoch
-- ARGV  1 payload  2 expiry in ms  3 capacity, or 0: look it up  4 begin of all keys  5.. part, capacity, part, capacity...
-- Returns {members reached, members at capacity, members whose process is gone, expired entries dropped, epoch}
--      or {-1, part...} for the parts whose capacity is asked for; then nothing was sent
-- include: clock epoch queue

local epoch = current_epoch(KEYS[2])
local now, life, capacity, base = server_ms(), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local MACHINE_FACTOR = 100 -- a machine's inbox serves many channels, whose own capacity is checked on the machine

local parts, names_of, gone = {}, {}, {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. as_text(now), '+inf')) do
  local part = string.match(member, '^[^!]*!') or member
  if not names_of[part] then
    names_of[part] = {}
    parts[#parts + 1] = part
  end
  table.insert(names_of[part], member)
end
if #parts == 0 then
  return {0, 0, 0, 0, epoch}
end

local capacity_of = {}
if capacity == 0 then
  for i = 5, #ARGV, 2 do
    capacity_of[ARGV[i]] = tonumber(ARGV[i + 1])
  end
  local unknown = {-1}
  for _, part in ipairs(parts) do
    if not capacity_of[part] then
      unknown[#unknown + 1] = part
    end
  end
  if #unknown > 1 then
    return unknown
  end
end

local stamp = now + life
local sent, full, dead, expired = 0, 0, 0, 0
for _, part in ipairs(parts) do
  local names = names_of[part]
  local process = string.match(part, '([^.]*)!$')
  if
    process
    and redis.call('EXISTS', base .. 'alive|' .. process) == 0
    and not may_not_have_renewed(epoch, now)
  then
    for _, name in ipairs(names) do
      gone[#gone + 1] = name
    end
    dead = dead + #names
  else
    local key = base .. (process and 'inbox|' or 'queue|') .. part
    local limit = capacity_of[part] or capacity
    if string.sub(part, 1, 1) == '@' then
      limit = limit * MACHINE_FACTOR
    end
    local room, dropped = make_room(key, limit, now)
    expired = expired + dropped
    if room then
      redis.call('RPUSH', key, new_entry(stamp, epoch, table.concat(names, ','), ARGV[1]))
      prolong(key, life)
      sent = sent + #names
    else
      full = full + #names
    end
  end
end

-- Only now: a full server refuses a script at its first write that needs memory, but lets it go on after any other write.
for _, name in ipairs(gone) do
  redis.call('ZREM', KEYS[1], name)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', as_text(now))
return {sent, full, dead, expired, epoch}
