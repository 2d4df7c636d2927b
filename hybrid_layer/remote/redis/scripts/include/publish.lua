-- SPDX-License-Identifier: BSD-3-Clause
-- Publishes a text. Returns how many connections received it. In a cluster, names have a hash tag, and only the node of
-- its slot publishes.

local function publish(channel, text)
  local command = string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH'
  return redis.call(command, channel, text)
end
