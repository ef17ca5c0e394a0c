-- nack gives an item back, or up.
-- ARGV: after those of shared.lua 1 envelope, 2 the envelope with one attempt
--       more, 3 "dead": to the dead letters, or ms after which it is due
-- Returns {"done", 1, or 0: it is not among the caller's claims}
local dead, delay = arg(3) == 'dead', tonumber(arg(3))
if watched then
  local answer = unknown(0)
  if answer then return answer end
end
local found = redis.call('LREM', OWN, 1, arg(1))
if found == 1 then
  if dead then
    redis.call('RPUSH', DEAD, arg(2))
    finished()
  elseif delay > 0 then
    redis.call('ZADD', DELAYED, number(now + delay * 1000), arg(2))
  else
    redis.call('LPUSH', WAITING, arg(2))
  end
  remember()
end
return {'done', found}
