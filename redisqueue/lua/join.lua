-- join asks whether everything is finished, or was since an earlier look.
-- Returns {"zeros", a number that grows each time when nothing is unfinished, 1 if
--       nothing is now}
local answer = unknown(0)
if answer then return answer end
local zeros = redis.call('HGET', ABOUT, 'zeros') or '0'
due()
admit()
local rest = redis.call('LLEN', WAITING) + redis.call('ZCARD', PARKED) + redis.call('ZCARD', DELAYED)
if rest == 0 and unfinished() == 0 then return {'zeros', zeros, 1} end
redis.call('HDEL', ABOUT, 'joined') -- full memory allows what follows
declare()
redis.call('HSET', ABOUT, 'joined', number(now + JOINED * 1000))
return {'zeros', zeros, 0}
