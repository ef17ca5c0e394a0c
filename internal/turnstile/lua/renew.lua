-- renew extends the holder's lease. It never makes a key.
-- ARGV: 1 ticket, 2 ttl ms (0: only ask), 3 token of the present turn, 4 a revoked token whose
--       turn is over ("" none)
-- Returns {1}, {0}: not the holder, or {-1, token}: revoked
local ticket, ttl, turn, dismissed = unpack(ARGV)
local h = redis.call('HMGET', HOLDER, 'revoke', 'breakers', 'turn', 'ticket')
if redis.call('GET', LOCK) ~= ticket or h[4] ~= ticket then return {0} end
if h[1] then
  if h[1] ~= dismissed then return {-1, h[1]} end
  redis.call('HDEL', HOLDER, 'revoke', 'breakers')
  over(h[2])
end
extend(ttl)
if h[3] ~= turn then redis.pcall('HSET', HOLDER, 'turn', turn) end
return {1}
