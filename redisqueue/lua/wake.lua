-- wake has a BLPOP of the caller return, which waits on the caller's own list too. It
-- stands alone, without shared.lua.
-- KEYS: that list
-- Returns 1
local wake = unpack(KEYS)
redis.call('DEL', wake) -- full memory allows what follows
redis.call('RPUSH', wake, '')
redis.call('PEXPIRE', wake, 1000) -- ms: it may come when nothing waits any more
return 1
