-- SPDX-License-Identifier: BSD-3-Clause
-- Stores one message in the queue of a normal channel or in an inbox, or several: in order, the first that have room.
--
-- KEYS  1 queue  2 epoch  3 the alive key of the inbox's process or machine; absent for a normal channel
-- ARGV  1 payload  2 full channel name  3 capacity  4 expiry in ms
--       5 the caller's knowledge of the clock (clock.lua), or nothing
--       6 expiry of this message in ms; absent or "" if it is that of ARGV[4], by which others are judged
--       7.. the payloads of further messages
-- Returns {0 stored | 1 full | 2 the addressee is gone, or seems to be, number of expired entries dropped to make room,
--          epoch, the server's clock in ms, and if there are several messages, how many are stored, or are for one gone}
-- include: clock epoch alive queue stream

local now, life = server_ms(), tonumber(ARGV[4])
local epoch, gone, machine, alive
if KEYS[3] then
  local values = redis.call('MGET', KEYS[2], KEYS[3])
  if string.find(KEYS[3], '|alive|@', 1, true) then
    machine, alive = streams(), values[2]
  end
  epoch = values[1] or current_epoch(KEYS[2], true) -- an epoch existed before the channel's name did
  if not lives(values[2], now, life) then
    gone = doubts().is_gone(values[2], KEYS[3], string.match(KEYS[3], '^(.*)alive|'), epoch, now, ARGV[5])
    if gone == true then
      return {2, 0, epoch, now, ARGV[7] and #ARGV - 5}
    end
  end
else
  epoch = current_epoch(KEYS[2])
end
local capacity, room, dropped, length = tonumber(ARGV[3])
if machine then
  room, dropped, length = machine.make_room(KEYS[1], alive, capacity, now, life, ARGV[5])
else
  room, dropped = make_room(KEYS[1], capacity, now, life, ARGV[5])
end
if not room then
  return {1, dropped, epoch, now, ARGV[7] and 0}
end
local own_life = tonumber(ARGV[6]) or life
local head, stored = entry_head(now + own_life, epoch) .. ARGV[2] .. '|', 0
local payload = ARGV[1]
repeat
  if machine then
    machine.append(KEYS[1], head .. payload, own_life, length)
  else
    push('RPUSH', KEYS[1], head .. payload, own_life)
  end
  stored = stored + 1
  payload = ARGV[6 + stored]
  if payload then
    local more
    if machine then
      room, more, length = machine.make_room(KEYS[1], alive, capacity, now, life, ARGV[5])
    else
      room, more = make_room(KEYS[1], capacity, now, life, ARGV[5])
    end
    dropped = dropped + more
  end
until not (payload and room)
prolong_epoch(KEYS[2], math.max(life, own_life), ARGV[5]) -- what the caller knows of it holds for its other messages
return {room and (gone and 2 or 0) or 1, dropped, epoch, now, ARGV[7] and stored}
