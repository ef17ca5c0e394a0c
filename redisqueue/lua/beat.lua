-- beat has a consumer's claims stand from now, if they still do. It never
-- brings them back.
-- ARGV: after those of shared.lua 1 consumer, 2 ttl ms
-- Returns {"alive", how many claims, ms until a delayed item is due (-1 none), ms
--       until another consumer's claims end (-1 none), {consumers to sweep}}
--      or {"gone"}
local consumer, ttl = arg(1), arg(2)
local ends = redis.call('ZSCORE', CONSUMERS, consumer)
if not ends or tonumber(ends) <= now then return {'gone'} end
enlist(consumer, ttl)
local count = redis.call('LLEN', OWN)
if count > 0 then declare() else lapse() end
due()
local due, other, dead = later(consumer)
return {'alive', count, due, other, dead}
