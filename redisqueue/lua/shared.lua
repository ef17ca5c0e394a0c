-- Shared by all scripts of the queue but register; put in front of each.
--
-- KEYS, all with one hash tag:
--    1 list  the items that wait, as envelopes: "<id> <attempt> <payload>"
--    2 zset  parked items, which wait for room: id by number
--    3 hash  of them: id -> "<channel>\n<user's id>\n<envelope>"
--    4 zset  delayed items: envelope by the time when it is due
--    5 list  dead letters: envelopes
--    6 hash  about the queue: max, codec, shutdown, zeros (a number that grows
--            each time when nothing is unfinished), joined (until when somebody
--            wants to know that), number (of the last item that was parked, or
--            pushed by another program)
--    7 zset  consumers by the time when their claims end
--    8 hash  consumer -> metadata
--    9 zset  consumers that are gone, by the time of the first sweep
--   10 zset  parked items that a shutdown has refused, or taken back: id by time
--   11 zset  users' ids by time
--   12 zset  ids of commands, and of parked items that were taken back, by time
--   13       what the command needs besides: the caller's list of claims, or the
--            record of its producer or of what it took
--   14…      lists: the claims of the consumers that ARGV names
-- ARGV: 1 max, 2 codec, 3 policy (refuse, adopt, replace, follow), 4 channel of
--       all, "p:" or, sharded, "s:" and the name, 5 how many consumers are named,
--       6… their names, then what the script says of itself: arg(1), …
--
-- Every script may return {"mismatch", max, codec}: what is in Redis; and
-- {"consumers", name, …}: nothing was done, because the lists of these consumers
-- must be among KEYS. BLMOVE fills such a list without a script, so what is
-- claimed cannot be counted otherwise.
--
-- Times are microseconds of the server's clock, durations milliseconds. Numbers
-- are formatted by hand: Lua's own conversion rounds them to 14 digits.
local WAITING, PARKED, ROOM, DELAYED, DEAD, ABOUT = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local CONSUMERS, METADATA, GONE, REFUSED, IDS, ASKED = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local OWN = KEYS[13]
local CHANNEL = ARGV[4]
local REMEMBER = 300000     -- ms: how long ids of commands and refused items are known
local HOUR = 3600000        -- ms: how long a user's id is known
local DAY = 86400000        -- ms: how long an unused queue is remembered
local GRACE = 60000000      -- us: after so long a consumer that is gone is swept again
local JOINED = 60000        -- ms: how long a call of Join counts

local named = tonumber(ARGV[5])
local claims = {}
for i = 1, named do claims[ARGV[5 + i]] = KEYS[13 + i] end
local function arg(i) return ARGV[5 + named + i] end
local args = #ARGV - 5 - named

local function number(x) return string.format('%.0f', x) end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

local waiting = redis.call('LLEN', WAITING)
local about = redis.call('HMGET', ABOUT, 'max', 'codec', 'shutdown', 'joined')
local shutdown = about[3]
local watched = shutdown or (tonumber(about[4]) or 0) > now
local max = tonumber(about[1] or ARGV[1])
local replaced
if about[1] and ARGV[3] ~= 'follow' and (about[1] ~= ARGV[1] or about[2] ~= ARGV[2]) then
  if ARGV[3] == 'replace' then
    redis.call('HSET', ABOUT, 'max', ARGV[1], 'codec', ARGV[2])
    max = tonumber(ARGV[1])
    replaced = true
  elseif ARGV[3] == 'refuse' or about[2] ~= ARGV[2] then
    return {'mismatch', about[1], about[2]}
  end
end

local function tell(channel, message)
  local publish = channel:sub(1, 1) == 's' and 'SPUBLISH' or 'PUBLISH'
  redis.call(publish, channel:sub(3), message)
end

-- declare writes down what kind of queue this is.
local function declare()
  if about[1] then return end
  redis.call('HSET', ABOUT, 'max', ARGV[1], 'codec', ARGV[2], 'zeros', number(now))
  about[1], about[2] = ARGV[1], ARGV[2]
  for _, key in ipairs({CONSUMERS, METADATA, GONE}) do redis.call('PERSIST', key) end
end

-- lapse has what is known of consumers forgotten soon while nothing is known of the
-- queue: it is new, and nobody has claims, or it was deleted and the command late.
local function lapse()
  if about[1] then return end
  for _, key in ipairs({CONSUMERS, METADATA, GONE}) do redis.call('PEXPIRE', key, REMEMBER) end
end

-- remember has a queue that is empty, and has no consumers, forgotten after a day.
local function remember()
  if shutdown or redis.call('LLEN', WAITING) > 0 or redis.call('ZCARD', PARKED) > 0 or redis.call('ZCARD', DELAYED) > 0
    or redis.call('EXISTS', CONSUMERS) == 1 then
    redis.call('PERSIST', ABOUT)
  else
    redis.call('PEXPIRE', ABOUT, DAY)
  end
end

-- due moves delayed items whose time has come to the end of the queue.
local function due()
  for _, envelope in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '-inf', number(now), 'LIMIT', 0, 100)) do
    redis.call('ZREM', DELAYED, envelope)
    redis.call('RPUSH', WAITING, envelope)
  end
end

-- admit fills the room there is with parked items, and tells their producers.
local function admit()
  local room = max == 0 and math.huge or max - redis.call('LLEN', WAITING)
  local told = {}
  while room > 0 do
    local id = redis.call('ZRANGE', PARKED, 0, 0)[1]
    if not id then break end
    local channel, envelope = (redis.call('HGET', ROOM, id) or ''):match('^([^\n]*)\n[^\n]*\n(.*)$')
    redis.call('ZREM', PARKED, id)
    redis.call('HDEL', ROOM, id)
    if envelope then
      redis.call('RPUSH', WAITING, envelope)
      told[channel] = (told[channel] or 'admitted') .. ' ' .. id
      room = room - 1
    end
  end
  for channel, message in pairs(told) do tell(channel, message) end
end

-- named gives an item that another program has pushed an id: two that are equal
-- are two.
local function named(envelope)
  local attempt = envelope:match('^[^ ]+ (%d+) ')
  if attempt and #attempt <= 9 then return envelope end
  return '-' .. redis.call('HINCRBY', ABOUT, 'number', 1) .. ' 0 ' .. envelope
end

-- everybody lists the consumers that may have claims.
local function everybody()
  local all = redis.call('ZRANGE', CONSUMERS, 0, -1)
  for _, name in ipairs(redis.call('ZRANGE', GONE, 0, -1)) do all[#all + 1] = name end
  return all
end

-- claimed counts the claims; nil if some consumer was not named.
local function claimed()
  local count = 0
  for _, name in ipairs(everybody()) do
    if not claims[name] then return nil end
    count = count + redis.call('LLEN', claims[name])
  end
  return count
end

-- unknown says what to answer if the claims will have to be counted after so many
-- items have gone, and cannot be.
local function unknown(going)
  if redis.call('LLEN', WAITING) + redis.call('ZCARD', PARKED) + redis.call('ZCARD', DELAYED) > going then return nil end
  if claimed() then return nil end
  local all = everybody()
  table.insert(all, 1, 'consumers')
  return all
end

-- unfinished counts what was put and is not finished.
local function unfinished()
  return redis.call('LLEN', WAITING) + redis.call('ZCARD', PARKED) + redis.call('ZCARD', DELAYED) + claimed()
end

-- finished takes note of a moment in which nothing is unfinished. Before it the
-- script must have asked unknown.
local function finished()
  if not watched then return end
  if redis.call('LLEN', WAITING) + redis.call('ZCARD', PARKED) + redis.call('ZCARD', DELAYED) > 0 then return end
  if unfinished() > 0 then return end
  local zeros = math.max((tonumber(redis.call('HGET', ABOUT, 'zeros')) or 0) + 1, now)
  redis.call('HSET', ABOUT, 'zeros', number(zeros))
  tell(CHANNEL, 'finished')
end

-- asked says whether a command with this id was carried out before.
local function asked(id)
  if redis.call('ZSCORE', ASKED, id) then return true end
  redis.call('ZREMRANGEBYSCORE', ASKED, '-inf', number(now - REMEMBER * 1000))
  redis.call('ZADD', ASKED, number(now), id)
  redis.call('PEXPIRE', ASKED, REMEMBER)
  return false
end

-- later is what the callers's next look depends on: ms until a delayed item is due
-- and until another consumer's claims end (-1: none), and the consumers to sweep.
local function later(own)
  local function left(entry)
    return entry[2] and math.max(math.ceil((tonumber(entry[2]) - now) / 1000), 0) or -1
  end
  local dead = redis.call('ZRANGEBYSCORE', CONSUMERS, '-inf', number(now), 'LIMIT', 0, 20)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', GONE, '-inf', number(now - GRACE), 'LIMIT', 0, 20)) do
    dead[#dead + 1] = name
  end
  local ends = redis.call('ZRANGEBYSCORE', CONSUMERS, '(' .. number(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
  if ends[1] == own then table.remove(ends, 1) table.remove(ends, 1) end
  return left(redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')), left(ends), dead
end

-- enlist has the consumer's claims stand for so many ms from now. It begins with
-- a write that frees, which full memory allows, as it then does what follows.
local function enlist(name, ttl)
  redis.call('ZREM', CONSUMERS, name)
  redis.call('ZREM', GONE, name)
  redis.call('ZADD', CONSUMERS, number(now + tonumber(ttl) * 1000), name)
end

if replaced then -- there may be room now
  admit()
  waiting = redis.call('LLEN', WAITING)
end
