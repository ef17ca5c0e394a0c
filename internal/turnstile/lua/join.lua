-- join takes the lock, or stands in line for it.
-- ARGV: 1 ticket, 2 channel, 3 count of waiters, 4 ttl ms, 5 tokens to reserve (who is
--       alone, count 1, and finds the lock free gets one),
--       6 "1": the process has the lock already, and passes it on, else "0",
--       7 metadata, 8 "1": one attempt, do not stand in line
-- Returns {"granted", first token, last token, remaining ms}
--      or {"waiting", remaining ms (-1 none, -2 free), channel subscribed 0/1, foreign owner 0/1,
--          another process in line 0/1}
--      or {"ended"}: this ticket was withdrawn
local ticket, channel, count, ttl, reserve, holds, meta, try = unpack(ARGV)
if redis.call('ZSCORE', ENDED, ticket) then return {'ended'} end
local value = redis.call('GET', LOCK)
local h = read(value)
if h and h.ticket == ticket then
  if owned(ticket, h) then return granted(h) end
  return {'ended'} -- it is resting after its release
end
if value or redis.call('ZCARD', LINE) > 0 then
  if try == '1' then
    if not value then
      pump()
      value = redis.call('GET', LOCK)
    end
    if value then return answer(ticket, channel, value, redis.call('PTTL', LOCK)) end
  else
    append(ticket)
    local left = redis.call('PTTL', LOCK)
    stand(ticket, left, count, ttl, reserve, holds, channel, meta)
    if not value then
      pump(ticket)
      value, left = redis.call('GET', LOCK), redis.call('PTTL', LOCK)
    end
    return answer(ticket, channel, value, left)
  end
end
-- Who is alone, and finds the lock free, has nobody to pass it on to.
return granted(grant(ticket, ttl, count == '1' and '1' or reserve, channel, meta), tonumber(ttl))
