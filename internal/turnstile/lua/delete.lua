-- delete removes everything a free lock keeps. Ended tickets stay: they lapse
-- by themselves, and without them a late command could take the new lock.
-- Returns 1, or 0 when the lock is held
if redis.call('EXISTS', LOCK) == 1 then return 0 end
redis.call('DEL', HOLDER, LINE, PLACES, FENCE)
return 1
