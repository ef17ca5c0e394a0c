-- put puts a batch of items, or parks those for which there is no room. A batch
-- with the number of the producer's latest one, or an older one, is a repeat.
-- ARGV: after those of shared.lua 1 number of the batch, 2 channel of the
--       producer, then for each item: 3 "w" (may wait) or "t" (try once), 4 the
--       user's id ("" none), 5 id, 6 envelope
-- Returns {"put", a letter for each item: q put, p parked, f full, s shut down, d
--       an item with this user's id is there already}; the letters are "" for a
--       repeat of an older batch
local RECORD, KEPT = OWN, HOUR
local batch, producer = arg(1), arg(2)
local last, letters = (redis.call('GET', RECORD) or ''):match('^(%d+) (%a*)$')
if last and tonumber(last) >= tonumber(batch) then
  return {'put', last == batch and letters or ''}
end
if watched then
  local answer = unknown(0)
  if answer then return answer end
end
letters = {}
if shutdown then
  for i = 3, args, 4 do letters[#letters + 1] = 's' end
else
  finished() -- nothing was unfinished, and nobody has noticed: BLPOP runs no script
  due()
  declare()
  admit() -- the queue may be larger now
  local length, parked = redis.call('LLEN', WAITING), redis.call('ZCARD', PARKED)
  for i = 3, args, 4 do
    local mode, user, id, envelope = arg(i), arg(i + 1), arg(i + 2), arg(i + 3)
    local letter
    local known = user ~= '' and tonumber(redis.call('ZSCORE', IDS, user) or 0) > now - HOUR * 1000
    if known then
      letter = 'd'
    elseif parked == 0 and (max == 0 or length < max) then
      redis.call('RPUSH', WAITING, envelope)
      length = length + 1
      letter = 'q'
    elseif mode == 't' then
      letter = 'f'
    else
      redis.call('ZADD', PARKED, redis.call('HINCRBY', ABOUT, 'number', 1), id)
      redis.call('HSET', ROOM, id, producer .. '\n' .. user .. '\n' .. envelope)
      parked = parked + 1
      letter = 'p'
    end
    if user ~= '' and (letter == 'q' or letter == 'p') then
      redis.call('ZADD', IDS, number(now), user)
      redis.call('ZREMRANGEBYSCORE', IDS, '-inf', number(now - HOUR * 1000))
      redis.call('PEXPIRE', IDS, HOUR)
    end
    letters[#letters + 1] = letter
  end
end
letters = table.concat(letters)
redis.call('SET', RECORD, batch .. ' ' .. letters, 'PX', KEPT)
remember()
return {'put', letters}
