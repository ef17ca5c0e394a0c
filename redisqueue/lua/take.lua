-- take takes items for good, and keeps what it took for a repeat: a taking with the
-- number of the latest one of its record.
-- ARGV: after those of shared.lua 1 how many at most (0: only look after the
--       queue), 2 "1": an item was just taken by BLPOP; if not only to look 3 number of
--       the taking, 4 "1": it was sent before
-- Returns {"items", ms until a delayed item is due (-1 none), ms until a
--       consumer's claims end (-1 none), {consumers to sweep}, {envelopes}}
--      or {"shutdown"}: and nothing is left to come
local RECORD, KEPT, MOST = OWN, REMEMBER, 8388608 -- bytes of items at once, but for the last one
local count, popped, number, again = tonumber(arg(1)), arg(2) == '1', arg(3), arg(4) == '1'
local last = count > 0 and redis.call('LINDEX', RECORD, 0) -- its number; the items follow
local items, bytes = {}, 0
if last and tonumber(last) >= tonumber(number) then
  if last == number then items = redis.call('LRANGE', RECORD, 1, -1) end
  local due, ends, dead = later()
  return {'items', due, ends, dead, items}
end
if watched and (count > 0 or popped or shutdown) then
  local answer = unknown(count)
  if answer then return answer end
end
due()
if count > 0 then redis.call('DEL', RECORD) end -- full memory allows what follows
while #items < count and bytes < MOST do
  local envelope = redis.call('LMOVE', WAITING, RECORD, 'LEFT', 'RIGHT')
  if not envelope then
    admit()
    envelope = redis.call('LMOVE', WAITING, RECORD, 'LEFT', 'RIGHT')
    if not envelope then break end
  end
  items[#items + 1] = envelope
  bytes = bytes + #envelope
end
admit()
-- That nothing was taken is kept, too, lest an earlier attempt that comes late take
-- something.
if #items > 0 or last or again then
  redis.call('LPUSH', RECORD, number)
  redis.call('PEXPIRE', RECORD, KEPT)
end
if about[1] then remember() end
if #items > 0 or popped then finished() end
if #items == 0 and shutdown and redis.call('LLEN', WAITING) + redis.call('ZCARD', DELAYED) == 0 and unfinished() == 0 then
  return {'shutdown'}
end
local due, ends, dead = later()
return {'items', due, ends, dead, items}
