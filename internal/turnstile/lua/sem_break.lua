-- break forbids a holder to renew and tells its process. The permit is not
-- touched: it ends when the holder has given it back or its lease runs out. One
-- that only rests (turn 0) is free at once.
-- ARGV: 1 ticket, 2 turn to end, 3 channel to tell
-- Returns {"over"} or {"revoked", remaining ms, present turn}
local ticket, turn, channel = unpack(ARGV)
local h = holder(ticket)
if not h then
  if turn == '0' then
    redis.call('ZREM', PERMITS, ticket)
    pump()
  end
  return {'over'}
end
local n = tonumber(turn)
if n < tonumber(h.turn) or n > tonumber(h.last) then return {'over'} end
if not ('\t' .. h.breakers .. '\t'):find('\t' .. channel .. '\t', 1, true) then
  h.breakers = h.breakers == '' and channel or h.breakers .. '\t' .. channel
end
h.revoke = turn
redis.call('HDEL', HOLDERS, ticket) -- frees, so that full memory does not refuse the next
redis.call('HSET', HOLDERS, ticket, record(h))
keepFor(msUntil(h.at))
tell(h.channel, 'revoke ' .. ticket .. ' ' .. MAIN)
return {'revoked', msUntil(h.at), h.turn}
