-- take makes the ticket the owner of this member, if it is free.
-- ARGV: 1 ticket, 2 ttl ms, 3 metadata
-- Returns {1, fencing counter, server time us}: it is
--      or {0, owner, remaining ms (-1 none), one of ours 0/1}: it is another's
--      or {-1}: this ticket was given back
local ticket, ttl, meta = unpack(ARGV)
if redis.call('ZSCORE', ENDED, ticket) then return {-1} end
local owner = redis.call('GET', LOCK)
local h = redis.call('HMGET', HOLDER, 'member', 'rest')
local read, time = number(counter()), number(now())
if owner == ticket then
  if h[1] ~= ticket then return {-1} end -- it is resting after its release
  extend(ttl) -- a repeat: what follows counts from the latest sending
elseif owner then
  return {0, owner, redis.call('PTTL', LOCK), (owner == h[1] or owner == h[2]) and 1 or 0}
else
  redis.call('SET', LOCK, ticket, 'NX', 'PX', ttl)
  redis.call('DEL', HOLDER)
  redis.call('HSET', HOLDER, 'member', ticket, 'meta', meta)
  redis.call('PEXPIRE', HOLDER, ttl)
end
return {1, read, time}
