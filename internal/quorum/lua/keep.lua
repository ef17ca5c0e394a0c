-- keep has the token accepted, if it is greater than any before, and extends the
-- owner's lease. It never makes a key.
-- ARGV: 1 ticket, 2 ttl ms (0: only ask), 3 token
-- Returns {1}: kept, and the token is accepted here
--      or {2, fencing counter}: kept, but a token as great was seen
--      or {0}: not the owner
--      or {-1}: broken
local ticket, ttl, token = unpack(ARGV)
if not owned(ticket) then return {0} end
local h = redis.call('HMGET', HOLDER, 'revoke', 'token')
if h[1] then return {-1} end
if h[2] ~= token then
  local seen = counter()
  if tonumber(token) <= seen then
    extend(ttl)
    return {2, number(seen)}
  end
  -- A token ahead of this server's clock is remembered until that has caught up.
  redis.call('SET', FENCE, token, 'PX', number(DAY + math.max(tonumber(token) - now(), 0) / 1000))
  redis.call('HSET', HOLDER, 'token', token)
end
extend(ttl)
return {1}
