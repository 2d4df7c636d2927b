-- The members of a group that this server keeps: the parts they belong to, the capacity of each, and who is gone.
-- Needs: clock epoch queue

local MACHINE_FACTOR = 100 -- a machine's inbox serves many channels, whose own capacity is checked on the machine

local function process_of(part)
  return string.match(part, '([^.]*)!$')
end

-- A machine's inbox, whose name begins with "@".
local function is_machine(part)
  return string.sub(part, 1, 1) == '@'
end

-- In a cluster: nil, or the refusal of a script while its slot moves to another node, where some of the keys may be that
-- it derives from the members. A key that is nowhere is looked for; a server refuses that as long as the slot moves.
local function refusal_while_moving(base)
  if string.find(base, '{', 1, true) and type(redis.pcall('EXISTS', base .. 'nobody')) == 'table' then
    return redis.error_reply('TRYAGAIN the slot moves to another node')
  end
end

-- Returns the parts in order, and the members of each. A normal channel is a part of its own.
local function members_by_part(group, now)
  local parts, names_of = {}, {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', group, '(' .. as_text(now), '+inf')) do
    local part = string.match(member, '^[^!]*!') or member
    if not names_of[part] then
      names_of[part] = {}
      parts[#parts + 1] = part
    end
    table.insert(names_of[part], member)
  end
  return parts, names_of
end

-- Returns the capacity of each part; or nil and {-1, part...}, the parts whose capacity is asked for. `told` is a list of
-- part, capacity, part, capacity... from `first` on.
local function capacities(parts, capacity, told, first)
  local capacity_of, unknown = {}, {-1}
  if capacity == 0 then
    for i = first, #told, 2 do
      capacity_of[told[i]] = tonumber(told[i + 1])
    end
  end
  for _, part in ipairs(parts) do
    if capacity > 0 then
      capacity_of[part] = capacity
    elseif not capacity_of[part] then
      unknown[#unknown + 1] = part
    end
  end
  if #unknown > 1 then
    return nil, unknown
  end
  return capacity_of
end

-- Returns the parts that are there, those whose process is gone, and how many members these have.
local function living_and_gone(parts, names_of, base, epoch, now)
  local living, gone, dead = {}, {}, 0
  for _, part in ipairs(parts) do
    local process = process_of(part)
    if process and redis.call('EXISTS', base .. 'alive|' .. process) == 0 and not may_not_have_renewed(epoch, now) then
      gone[#gone + 1] = part
      dead = dead + #names_of[part]
    else
      living[#living + 1] = part
    end
  end
  return living, gone, dead
end

-- Removes the members of the parts that are gone, and those whose time is over. To be called last: a full server refuses a
-- script at its first write that needs memory, but lets it go on after any other write.
local function forget_old(group, gone, names_of, now)
  for _, part in ipairs(gone) do
    for _, name in ipairs(names_of[part]) do
      redis.call('ZREM', group, name)
    end
  end
  redis.call('ZREMRANGEBYSCORE', group, '-inf', as_text(now))
end

-- Stores one entry in the queue or inbox of each of the parts. Returns how many members it is for, how many are at capacity,
-- and how many expired entries were dropped.
local function store_for_each(parts, names_of, capacity_of, base, payload, epoch, life, now)
  local sent, full, expired = 0, 0, 0
  for _, part in ipairs(parts) do
    local names = names_of[part]
    local key = base .. (process_of(part) and 'inbox|' or 'queue|') .. part
    local capacity = capacity_of[part] * (is_machine(part) and MACHINE_FACTOR or 1)
    local room, dropped = make_room(key, capacity, now)
    if room then
      append(key, new_entry(now + life, epoch, table.concat(names, ','), payload), life)
      sent = sent + #names
    else
      full = full + #names
    end
    expired = expired + dropped
  end
  return sent, full, expired
end
