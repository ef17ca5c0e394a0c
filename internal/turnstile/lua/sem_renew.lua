-- renew extends the holder's permit. It never makes one.
-- ARGV: 1 ticket, 2 ttl ms (0: only ask), 3 present turn, 4 a revoked turn that is
--       over ("" none)
-- Returns {1, another process in line, or more taken than the limit 0/1}, {0}: not the holder, or {-1, turn}: revoked
local ticket, ttl, turn, dismissed = unpack(ARGV)
local h = holder(ticket)
if not h then return {0} end
local old = h.revoke .. ' ' .. h.turn
if h.revoke ~= '' then
  if h.revoke ~= dismissed then return {-1, h.revoke} end
  over(h.breakers)
  h.revoke, h.breakers = '', ''
end
h.turn = turn
extend(h, tonumber(ttl))
if h.revoke .. ' ' .. h.turn ~= old then redis.pcall('HSET', HOLDERS, ticket, record(h)) end
return {1, pressed(ticket)}
