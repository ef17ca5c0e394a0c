-- Shared by all scripts of the event; put in front of each.
--
-- KEYS, all with one hash tag:
--   1 string  the event's number: even is clear, odd is set, absent is 0
--   2 string  how many changes there were
--   3 zset    ids of changes asked for lately, by time in us
--
-- Numbers are formatted by hand: Lua's own conversion rounds them to 14 digits.
local VALUE, COUNT, ASKED = KEYS[1], KEYS[2], KEYS[3]

-- integer reads a number that a double holds exactly.
local function integer(key)
  local s = redis.call('GET', key)
  if not s then return 0 end
  local n = s:match('^%d+$') and tonumber(s)
  return n and n < 9007199254740990 and n
end

redis.call('ZCARD', ASKED) -- an error if it is something else

local value, count = integer(VALUE), integer(COUNT)
if not value or not count then
  return redis.error_reply('MISMATCH the key holds something else than an event')
end

local function number(x) return string.format('%.0f', x) end
