-- release gives the lock back, or leaves the line, and hands over.
-- ARGV: 1 ticket, 2 last token used ("" unknown), 3 ms for which the lock rests
--       before it is free, 4 "1": remember the ticket as ended, 5 another ticket
--       of the caller in line ("" none), 6 the caller's channel
-- Returns {1 if the lock was the ticket's, else 0} and, for the other ticket,
--       what check returns
local ticket, used, rest, ended, own, channel = unpack(ARGV)
local mine = owned(ticket, redis.call('GET', LOCK))
if mine then
  local h = redis.call('HMGET', HOLDER, 'last', 'breakers')
  if tonumber(rest) > 0 then
    redis.call('DEL', HOLDER)
    redis.call('PEXPIRE', LOCK, rest)
    redis.call('HSET', HOLDER, 'rest', ticket)
    redis.call('PEXPIRE', HOLDER, rest)
    look(0, tonumber(rest))
  else
    redis.call('DEL', LOCK, HOLDER)
  end
  if used ~= '' and redis.call('GET', FENCE) == h[1] then
    redis.call('SET', FENCE, used, 'PX', DAY)
  end
  over(h[2])
else
  leave(ticket)
end
if ended == '1' then
  redis.call('ZREMRANGEBYSCORE', ENDED, '-inf', number(now() - REMEMBER * 1000))
  redis.call('ZADD', ENDED, number(now()), ticket)
  redis.call('PEXPIRE', ENDED, REMEMBER)
end
pump(own)
local result = {mine and 1 or 0}
if own ~= '' then
  local owner = redis.call('GET', LOCK)
  local standing = owner == own or redis.call('ZSCORE', LINE, own)
  for _, x in ipairs(standing and answer(own, channel, owner, redis.call('PTTL', LOCK)) or {'unknown'}) do
    result[#result + 1] = x
  end
end
return result
