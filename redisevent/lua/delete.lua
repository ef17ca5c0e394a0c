-- delete removes the event, and wakes nobody.
-- Returns 1
redis.call('DEL', VALUE, COUNT, ASKED)
return 1
