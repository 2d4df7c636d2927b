-- SPDX-License-Identifier: BSD-3-Clause
-- The members of a group, by part. A part is an inbox, or a normal channel that is a member itself.
-- Needs: clock epoch alive queue stream registration

-- Whether it is the inbox of a process or a machine: its name ends with "!".
local function of_process(part)
  return string.byte(part, -1) == 33
end

local function process_of(part)
  return string.match(part, '^.*%.(.*)!$') or string.sub(part, 1, -2)
end

-- Whether it is a machine's inbox: its name begins with "@".
local function is_machine(part)
  return string.byte(part) == 64
end

-- In a cluster: the refusal of a script while its slot moves to another node, else nil. Some of the keys that the
-- script derives from the members may have moved. While a slot moves, a server refuses to look up a key that does not
-- exist.
local function refusal_while_moving(base)
  if string.find(base, '{', 1, true) and type(redis.pcall('EXISTS', base .. 'nobody')) == 'table' then
    return redis.error_reply('TRYAGAIN the slot moves to another node')
  end
end

-- The members by part: {parts = the parts, names_of = the names of each part as in an entry, count_of = how many names
-- that are, number = the number of members, is_kept = from the hash}. A machine is one member, with an empty name.
-- living_and_gone adds {doubtful = the parts whose process seems to be gone, or nil, machines = for each machine's part
-- {value = of its alive key, t = of its registration}}.
--
-- Sorting costs the server half a microsecond per member. So with many members to a part, the result is kept in a hash
-- with a field for each part. It is valid until a membership begins or ends, or there is a flush; and never for long,
-- in case somebody deletes the group itself.
local KEPT_FROM, KEPT_TO_A_PART, KEPT_MS = 32, 16, 60000

local function parts_key(group, base)
  return base .. 'parts|' .. string.sub(group, #base + #'group|' + 1)
end

local function sorted_members(group, now, all_there_are)
  local parts, lists, names_of, count_of = {}, {}, {}, {}
  local all = redis.call('ZRANGEBYSCORE', group, string.format('(%.0f', now), '+inf')
  for _, member in ipairs(all) do
    local mark = string.find(member, '!', 1, true) or #member
    local part = string.sub(member, 1, mark)
    local list = lists[part]
    if not list then
      list = {}
      lists[part] = list
      parts[#parts + 1] = part
    end
    list[#list + 1] = string.sub(member, mark + 1)
  end
  for part, list in pairs(lists) do
    names_of[part], count_of[part] = part .. table.concat(list, ','), #list
  end
  return {
    parts = parts, names_of = names_of, count_of = count_of, number = #all, none_expired = #all == all_there_are,
  }
end

local function members_by_part(group, base, epoch, now)
  local members = {parts = {}, names_of = {}, count_of = {}, number = 0}
  local parts, names_of, count_of = members.parts, members.names_of, members.count_of
  local all = redis.call('ZCARD', group)
  if all < KEPT_FROM then
    return sorted_members(group, now, all)
  end
  local kept = redis.pcall('HGETALL', parts_key(group, base)) -- an error has no elements
  for i = 1, #kept, 2 do
    local part, text = kept[i], kept[i + 1]
    if part == '' then
      members.is_kept = text == epoch
    else
      local count, names = string.match(text, '^(%d+)|(.*)$')
      if not count then -- a foreign value
        members.is_kept = nil
        break
      end
      parts[#parts + 1], names_of[part], count_of[part] = part, names, tonumber(count)
      members.number = members.number + count_of[part]
    end
  end
  if members.is_kept then
    return members
  end
  return sorted_members(group, now, all)
end

local function keep_members(group, base, members, epoch, now)
  if members.number < math.max(KEPT_FROM, KEPT_TO_A_PART * #members.parts) then
    return
  end
  local first = redis.call('ZRANGE', group, 0, 0, 'WITHSCORES')[2]
  local life = math.min((tonumber(first) or 0) - now - 1, KEPT_MS)
  if life <= 0 then
    return
  end
  local key = parts_key(group, base)
  redis.call('DEL', key)
  local fields = {'', epoch}
  for i, part in ipairs(members.parts) do
    fields[#fields + 1] = part
    fields[#fields + 1] = members.count_of[part] .. '|' .. members.names_of[part]
    if i % 1000 == 0 or i == #members.parts then
      redis.pcall('HSET', key, unpack(fields)) -- a full server may refuse it, which does no harm
      fields = {}
    end
  end
  redis.call('PEXPIRE', key, life)
end

-- Returns the capacity of each part; or nil and {-1, part...}, the parts whose capacities are missing. `known` contains
-- part, capacity, part, capacity... from the index `first` on.
local function capacities(parts, capacity, known, first)
  local capacity_of, unknown = {}, {-1}
  if capacity == 0 then
    for i = first, #known, 2 do
      capacity_of[known[i]] = tonumber(known[i + 1])
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

-- Returns the live parts, the parts whose process is gone, and how many members the latter have. Parts whose process
-- only seems to be gone are among the live ones, and marked in `members.doubtful`. Normal channels are among the live
-- ones, or in `elsewhere`, if that is a table. The part `skip` is in neither.
local function living_and_gone(group, members, base, epoch, now, life, known, elsewhere, skip)
  local living, gone, dead, parts, keys, t_of = {}, {}, 0, {}, {}, nil
  members.machines = {}
  for i, part in ipairs(members.parts) do
    if part == skip then
      -- It has the message already.
    elseif of_process(part) then
      parts[#parts + 1], keys[#keys + 1] = part, base .. 'alive|' .. process_of(part)
    else
      local queued = elsewhere or living
      queued[#queued + 1] = part
    end
    if #keys == 1000 or (i == #members.parts and #keys > 0) then -- in batches: a command costs more than a key
      for n, value in ipairs(redis.call('MGET', unpack(keys))) do
        local is_dead = not lives(value, now, life) and doubts().is_gone(value, keys[n], base, epoch, now, known)
        if is_machine(parts[n]) and is_dead ~= true then
          t_of = t_of or registrations().t_of
          local t = t_of(group, parts[n])
          members.machines[parts[n]] = {value = value, t = t}
          is_dead = not t or is_dead -- no T: it is only a part of a stranger's member
        end
        if is_dead == true then
          gone[#gone + 1] = parts[n]
          dead = dead + members.count_of[parts[n]]
        else
          living[#living + 1] = parts[n]
          if is_dead then
            members.doubtful = members.doubtful or {}
            members.doubtful[parts[n]] = true
          end
        end
      end
      if i < #members.parts then
        parts, keys = {}, {}
      end
    end
  end
  return living, gone, dead
end

-- Removes the members of the parts that are gone and the expired members, and may keep the others by part. Must be
-- called last: a full server refuses a script at its first write that needs memory, but not after any other write.
local function tidy_up(group, base, members, gone, epoch, now)
  for _, part in ipairs(gone) do
    for name in string.gmatch(string.sub(members.names_of[part], #part + 1) .. ',', '([^,]*),') do -- a name may be empty
      redis.call('ZREM', group, part .. name)
    end
  end
  if #gone > 0 then
    redis.call('DEL', parts_key(group, base))
  elseif members.is_kept then
    return -- the hash expires with the first membership, so none has expired
  end
  if not members.none_expired then
    redis.call('ZREMRANGEBYSCORE', group, '-inf', string.format('%.0f', now))
  end
  if #gone == 0 then
    keep_members(group, base, members, epoch, now)
  end
end

-- Stores one entry in the queue or inbox of each of `parts`. Returns numbers: members reached, members at capacity,
-- expired entries dropped, members whose process seems to be gone.
local function store_for_each(group, parts, members, capacity_of, base, payload, epoch, life, now, known)
  local sent, full, expired, doubtful = 0, 0, 0, 0
  local head, stream = entry_head(now + life, epoch), next(members.machines) and streams()
  for _, part in ipairs(parts) do
    local count, machine = members.count_of[part], members.machines[part]
    local key = base .. (of_process(part) and 'inbox|' or 'queue|') .. part
    local room, dropped, length
    if machine then
      room, dropped, length = stream.make_room(key, machine.value, capacity_of[part], now, life, known)
    else
      room, dropped = make_room(key, capacity_of[part], now, life, known)
    end
    if room and machine then
      local names = string.format('=%s,%.0f|', string.sub(group, #base + #'group|' + 1), machine.t)
      stream.append(key, head .. names .. payload, life, length)
    elseif room then
      push('RPUSH', key, head .. members.names_of[part] .. '|' .. payload, life)
    end
    if members.doubtful and members.doubtful[part] then
      doubtful = doubtful + count
    elseif room then
      sent = sent + count
    else
      full = full + count
    end
    expired = expired + dropped
  end
  return sent, full, expired, doubtful
end
