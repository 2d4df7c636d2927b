-- SPDX-License-Identifier: BSD-3-Clause
-- The inbox of a machine is a stream. Its reader goes by ids and takes nothing away; it trims what it has taken in. Each
-- entry has one field with one text: a message as in queue.lua, or a note as in notes.lua. The names of a message to a
-- group are "=<group>,<T>", where T is the registration that it was sent to (registration.lua).
-- Needs: clock queue

-- Functions that are needed only for machines, so that they are not created for each message.
local function streams()
  -- What was taken in and not yet trimmed takes room, too: up to UNTRIMMED entries. With NOTES more than there is room
  -- for messages, nobody reads.
  local UNTRIMMED, NOTES, NOTES_LIFE_MS = 64, 5000, 600000

  -- How many entries may wait for a machine: `capacity` for each of its inboxes. `value` is that of its alive key, which
  -- has their number.
  local function room_for(value, capacity)
    local inboxes = tonumber(string.match(value or '', '^%d+%.%d+|%d+|(%d+)$'))
    return capacity * math.max(1, math.min(inboxes or 1, 1000000)) + UNTRIMMED
  end

  -- As make_room in queue.lua. Also returns how many entries there are.
  local function make_room_in_stream(key, value, capacity, now, life, known)
    local room, length, dropped = room_for(value, capacity), redis.call('XLEN', key), 0
    while length >= room do
      local head = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
      if not head or not has_expired(head[2][2], now, life, known) then
        break
      end
      redis.call('XDEL', key, head[1])
      dropped = dropped + 1
      length = length - 1
    end
    return length < room, dropped, length
  end

  -- As push in queue.lua. `life` is that of the text, in ms. With `length` entries before it, the key has a life, which
  -- the machine's renewals keep above SLACK_MS; so that of most texts need not be compared.
  local function append(key, text, life, length)
    redis.call('XADD', key, '*', 'e', text)
    if length > 0 and life <= SLACK_MS then
      return
    end
    local key_life = 2 * life + SLACK_MS
    if redis.call('PTTL', key) < key_life then
      redis.call('PEXPIRE', key, key_life)
    end
  end

  -- Leaves a note, even if there is no room for messages. Returns false if nobody seems to read.
  local function append_note(key, note, value, capacity)
    local length = redis.call('XLEN', key)
    if length >= room_for(value, capacity) + NOTES then
      return false
    end
    append(key, note, NOTES_LIFE_MS, length)
    return true
  end

  return {make_room = make_room_in_stream, append = append, append_note = append_note}
end
