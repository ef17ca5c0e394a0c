-- break forbids the holder to renew and tells its process. The lock is not
-- touched: it ends when the holder has given it back or its lease runs out.
-- ARGV: 1 token of the turn to end ("0": whoever holds), 2 channel to tell
-- Returns {"over"}, {"revoked", remaining ms, token of the turn}, or {"foreign"}: not one of ours
local token, channel = unpack(ARGV)
local owner = redis.call('GET', LOCK)
if not owner then return {'over'} end
local h = redis.call('HMGET', HOLDER, 'ticket', 'rest', 'token', 'last', 'turn', 'channel', 'revoke', 'breakers')
if owner == h[2] then
  if token == '0' then
    redis.call('DEL', LOCK, HOLDER)
    pump()
  end
  return {'over'}
end
if owner ~= h[1] then return {'foreign'} end
if token ~= '0' then
  local t = tonumber(token)
  if t < tonumber(h[5]) or t > tonumber(h[4]) then return {'over'} end
  if h[7] == '0' then token = '0' end -- the wider one stands
end
local breakers = h[8] or ''
if not ('\n' .. breakers .. '\n'):find('\n' .. channel .. '\n', 1, true) then
  breakers = breakers == '' and channel or breakers .. '\n' .. channel
end
redis.call('HDEL', HOLDER, 'revoke') -- frees, so that full memory does not refuse the next
redis.call('HSET', HOLDER, 'revoke', token, 'breakers', breakers)
tell(h[6], 'revoke ' .. owner .. ' ' .. LOCK)
return {'revoked', redis.call('PTTL', LOCK), h[5]}
