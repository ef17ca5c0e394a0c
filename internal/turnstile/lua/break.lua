-- break forbids the holder to renew and tells its process. The lock is not
-- touched: it ends when the holder has given it back or its lease runs out.
-- ARGV: 1 token of the turn to end ("0": whoever holds), 2 channel to tell
-- Returns {"over"}, {"revoked", remaining ms, token of the turn}, or {"foreign"}: not one of ours
local token, channel = unpack(ARGV)
local value = redis.call('GET', LOCK)
if not value then return {'over'} end
local h = read(value)
if not h then return {'foreign'} end
if h.turn == '0' then
  if token == '0' then
    redis.call('DEL', LOCK)
    pump()
  end
  return {'over'}
end
if token ~= '0' then
  local t = tonumber(token)
  if t < tonumber(h.turn) or t > tonumber(h.last) then return {'over'} end
  if h.revoke == '0' then token = '0' end -- the wider one stands
end
if not ('\t' .. h.breakers .. '\t'):find('\t' .. channel .. '\t', 1, true) then
  h.breakers = h.breakers == '' and channel or h.breakers .. '\t' .. channel
end
h.revoke = token
rewrite(h)
tell(h.channel, 'revoke ' .. h.ticket .. ' ' .. LOCK)
return {'revoked', redis.call('PTTL', LOCK), h.turn}
