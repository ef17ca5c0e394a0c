-- state describes the lock.
-- Returns {owner ("" free), ours 0/1, token, remaining ms, metadata, waiters}
local value = redis.call('GET', LOCK)
local waiting = waiters()
if not value then return {'', 0, '0', -2, '', waiting} end
local h, left = read(value), redis.call('PTTL', LOCK)
if not h then return {value, 0, '0', left, '', waiting} end
return {h.ticket, 1, h.turn, left, h.meta, waiting}
