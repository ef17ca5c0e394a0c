-- leave forgets a consumer without claims.
-- ARGV: after those of shared.lua 1 consumer, 2 "1": a BLMOVE of it may come late
-- Returns {"done", 1, or 0: it has claims}
if redis.call('LLEN', OWN) > 0 then return {'done', 0} end
redis.call('ZREM', CONSUMERS, arg(1))
redis.call('HDEL', METADATA, arg(1))
if arg(2) == '1' then redis.call('ZADD', GONE, number(now), arg(1)) end
lapse()
remember()
return {'done', 1}
