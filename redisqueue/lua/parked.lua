-- parked tells what became of parked items, and takes back those still parked if
-- asked to.
-- ARGV: after those of shared.lua 1 "1": take back, 2… ids
-- Returns {"parked", a letter for each id: p parked, a admitted, s refused by a
--       shutdown or taken back before, t taken back}
local back = arg(1) == '1'
if back and watched then
  local answer = unknown(args - 1)
  if answer then return answer end
end
local letters = {}
if not back then
  due()
  admit() -- room may have come without a script: a consumer died after its BLPOP
end
for i = 2, args do
  local id = arg(i)
  local letter = 'a'
  if redis.call('ZSCORE', PARKED, id) then
    letter = 'p'
    if back then
      local user = (redis.call('HGET', ROOM, id) or ''):match('^[^\n]*\n([^\n]*)\n')
      redis.call('ZREM', PARKED, id)
      redis.call('HDEL', ROOM, id)
      if user and user ~= '' then redis.call('ZREM', IDS, user) end
      -- A repeat, or a look that overtakes this answer, must not take it for admitted.
      redis.call('ZADD', REFUSED, number(now), id)
      letter = 't'
    end
  elseif redis.call('ZSCORE', REFUSED, id) then
    letter = 's'
  end
  letters[#letters + 1] = letter
end
if back then
  redis.call('ZREMRANGEBYSCORE', REFUSED, '-inf', number(now - REMEMBER * 1000))
  redis.call('PEXPIRE', REFUSED, REMEMBER)
  remember()
  finished()
end
return {'parked', table.concat(letters)}
