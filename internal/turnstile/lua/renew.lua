-- renew extends the holder's lease. It never makes a key.
-- ARGV: 1 ticket, 2 ttl ms (0: only ask), 3 token of the present turn, 4 a revoked token whose
--       turn is over ("" none)
-- Returns {1, another process in line 0/1}, {0}: not the holder, or {-1, token}: revoked
local ticket, ttl, turn, dismissed = unpack(ARGV)
local h = read(redis.call('GET', LOCK))
if not owned(ticket, h) then return {0} end
if h.revoke ~= '' then
  if h.revoke ~= dismissed then return {-1, h.revoke} end
  local breakers = h.breakers
  h.turn, h.revoke, h.breakers = turn, '', ''
  rewrite(h)
  over(breakers)
elseif h.turn ~= turn then
  h.turn = turn
  redis.pcall('SET', LOCK, record(h), 'KEEPTTL')
end
extend(ttl)
return {1, crowd(ticket)}
