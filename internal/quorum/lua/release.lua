-- release gives this member back, and tells those who wait.
-- ARGV: 1 ticket, 2 ms for which the lock rests before it is free, 3 "1": remember
--       the ticket as ended, 4 channel, 5 "1": tell also if it was not the owner
-- Returns 1 if the ticket was the owner, else 0
local ticket, rest, ended, channel, always = unpack(ARGV)
local mine = owned(ticket)
if mine then
  redis.call('DEL', HOLDER)
  if tonumber(rest) > 0 then
    redis.call('PEXPIRE', LOCK, rest)
    redis.call('HSET', HOLDER, 'rest', ticket)
    redis.call('PEXPIRE', HOLDER, rest)
  else
    redis.call('DEL', LOCK)
  end
end
if ended == '1' then
  local at = now()
  redis.call('ZREMRANGEBYSCORE', ENDED, '-inf', number(at - REMEMBER * 1000))
  redis.call('ZADD', ENDED, number(at), ticket)
  redis.call('PEXPIRE', ENDED, REMEMBER)
end
if mine or always == '1' then
  local publish = channel:sub(1, 1) == 's' and 'SPUBLISH' or 'PUBLISH'
  redis.call(publish, channel:sub(3), 'free')
end
return mine and 1 or 0
