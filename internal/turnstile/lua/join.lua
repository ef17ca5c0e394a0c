-- join takes the lock, or stands in line for it.
-- ARGV: 1 ticket, 2 channel, 3 count of waiters, 4 ttl ms, 5 tokens to reserve,
--       6 metadata, 7 "1": one attempt, do not stand in line
-- Returns {"granted", first token, last token, remaining ms}
--      or {"waiting", remaining ms (-1 none, -2 free), channel subscribed 0/1, foreign owner 0/1}
--      or {"ended"}: this ticket was withdrawn
local ticket, channel, count, ttl, reserve, meta, try = unpack(ARGV)
if redis.call('ZSCORE', ENDED, ticket) then return {'ended'} end
local owner = redis.call('GET', LOCK)
if owner == ticket then
  if owned(ticket, owner) then return granted(ticket) end
  return {'ended'} -- it is resting after its release
end
if try == '1' then
  if not owner then
    pump()
    owner = redis.call('GET', LOCK)
  end
  if owner then return answer(ticket, channel, owner, redis.call('PTTL', LOCK)) end
elseif owner or redis.call('ZCARD', LINE) > 0 then
  if not redis.call('ZSCORE', LINE, ticket) then
    local tail = redis.call('ZREVRANGE', LINE, 0, 0, 'WITHSCORES')[2]
    redis.call('ZADD', LINE, number((tonumber(tail) or 0) + 1), ticket)
  end
  local left = redis.call('PTTL', LOCK)
  stand(ticket, left, count, ttl, reserve, channel, meta)
  if not owner then
    pump(ticket)
    owner, left = redis.call('GET', LOCK), redis.call('PTTL', LOCK)
  end
  return answer(ticket, channel, owner, left)
end
grant(ticket, ttl, reserve, channel, meta)
return granted(ticket)
