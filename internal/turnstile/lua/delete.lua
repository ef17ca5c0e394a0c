-- delete removes everything a free lock keeps. Ended tickets stay: they lapse
-- by themselves, and without them a late command could take the new lock.
-- So does a counter that runs ahead of the clock, because a holder died with
-- tokens reserved, until the clock has caught up.
-- Returns 1, or 0 when the lock is held
if redis.call('EXISTS', LOCK) == 1 then return 0 end
-- What is of another type is an error here, and nothing is deleted.
redis.call('ZCARD', LINE)
redis.call('HLEN', PLACES)
local ahead = (tonumber(redis.call('GET', FENCE)) or 0) - now()
redis.call('DEL', LINE, PLACES)
if ahead < 0 then
  redis.call('DEL', FENCE)
else
  redis.call('PEXPIRE', FENCE, number(math.ceil(ahead / 1000) + 1000))
end
return 1
