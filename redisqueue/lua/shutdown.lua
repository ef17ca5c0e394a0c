-- shutdown ends the queue: what is parked is refused.
-- ARGV: after those of shared.lua 1 id of the command
-- Returns {"done", 1}
local parked = redis.call('ZRANGE', PARKED, 0, -1)
local answer = unknown(#parked)
if answer then return answer end
if asked(arg(1)) then return {'done', 1} end
for _, id in ipairs(parked) do
  local user = (redis.call('HGET', ROOM, id) or ''):match('^[^\n]*\n([^\n]*)\n')
  if user and user ~= '' then redis.call('ZREM', IDS, user) end
end
redis.call('DEL', PARKED, ROOM)
for _, id in ipairs(parked) do redis.call('ZADD', REFUSED, number(now), id) end
redis.call('PEXPIRE', REFUSED, REMEMBER)
declare()
redis.call('HSET', ABOUT, 'shutdown', '1')
redis.call('PERSIST', ABOUT)
watched = true
finished()
tell(CHANNEL, 'shutdown')
return {'done', 1}
