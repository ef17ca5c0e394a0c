-- delete removes what a free lock keeps here. Ended tickets stay: they lapse by
-- themselves, and without them a late command could take the lock. So does a
-- counter that runs ahead of this server's clock, until the clock has caught up.
-- Returns 1, or 0 when the lock is held
if redis.call('EXISTS', LOCK) == 1 then return 0 end
redis.call('HLEN', HOLDER) -- an error if it is something else, and nothing is deleted
local ahead = counter() - now()
redis.call('DEL', HOLDER)
if ahead < 0 then
  redis.call('DEL', FENCE)
else
  redis.call('PEXPIRE', FENCE, number(math.ceil(ahead / 1000) + 1000))
end
return 1
