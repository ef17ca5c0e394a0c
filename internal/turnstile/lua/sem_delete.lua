-- delete removes everything a semaphore keeps of which no permit is taken. Ended
-- tickets and ids of changes stay: they lapse by themselves, and without them a
-- late command could take a permit, or move the new limit.
-- Returns 1, or 0 when a permit is taken
if redis.call('ZCOUNT', PERMITS, '(' .. number(now()), '+inf') > 0 then return 0 end
-- What is of another type is an error here, and nothing is deleted.
redis.call('HLEN', HOLDERS)
redis.call('ZCARD', LINE)
redis.call('HLEN', PLACES)
redis.call('HLEN', LIMIT)
redis.call('DEL', PERMITS, HOLDERS, LINE, PLACES, LIMIT)
return 1
