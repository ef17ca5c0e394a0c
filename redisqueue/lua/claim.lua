-- claim moves items to the caller's claims, and has those stand from now.
-- ARGV: after those of shared.lua 1 consumer, 2 ttl ms, 3 how many at most, 4
--       metadata
-- Returns {"items", ms until a delayed item is due (-1 none), ms until another
--       consumer's claims end (-1 none), {consumers to sweep}, {envelopes}}
--      or {"shutdown"}: and nothing is left to come
local CLAIMS = OWN
local consumer, ttl, count, metadata = arg(1), arg(2), tonumber(arg(3)), arg(4)
claims[consumer] = CLAIMS
if shutdown then
  local answer = unknown(0)
  if answer then return answer end
end
enlist(consumer, ttl)
redis.call('HSET', METADATA, consumer, metadata)
due()
local items = {}
while #items < count do
  if redis.call('LLEN', WAITING) == 0 then admit() end
  local envelope = redis.call('LMOVE', WAITING, CLAIMS, 'LEFT', 'RIGHT')
  if not envelope then break end
  items[#items + 1] = named(envelope)
  if items[#items] ~= envelope then redis.call('LSET', CLAIMS, -1, items[#items]) end
end
admit()
if redis.call('LLEN', CLAIMS) > 0 then declare() else lapse() end
if #items == 0 and shutdown and redis.call('LLEN', WAITING) + redis.call('ZCARD', DELAYED) == 0 and unfinished() == 0 then
  return {'shutdown'}
end
local due, ends, dead = later(consumer)
return {'items', due, ends, dead, items}
