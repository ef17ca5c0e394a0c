-- Shared by all scripts of the event; put in front of each.
--
-- KEYS, all with one hash tag:
--   1 string  the event's number: even is clear, odd is set, absent is 0
--   2 string  how many changes there were
--   3 zset    ids of changes asked for lately, by time in us
--
-- Numbers are formatted by hand: Lua's own conversion rounds them to 14 digits.
local VALUE, COUNT, ASKED = KEYS[1], KEYS[2], KEYS[3]

local function integer(key)
  local s = redis.call('GET', key)
  if not s then return 0 end
  return s:match('^%d+$') and tonumber(s)
end

local value, count = integer(VALUE), integer(COUNT)
if not value or not count then
  return redis.error_reply('MISMATCH the key holds something else than an event')
end

local function number(x) return string.format('%.0f', x) end
