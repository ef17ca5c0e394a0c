-- Shared by all scripts of the lock and of the semaphore: the line. Put in front
-- of each, and before what those of one of them share.
--
-- KEYS, all with one hash tag:
--   1         what is waited for; messages name it
--   3 zset    the line: ticket by number
--   4 hash    places: ticket -> seen, due (when it looks again by itself), count,
--             ttl, reserve, holds (1: its process has what it waits for already,
--             and passes it on), channel, meta
--   5 zset    ended tickets by time in us
--
-- Times are microseconds of the server's clock, durations milliseconds.
-- A channel is "p:" or, sharded, "s:" and the name. Numbers are formatted by
-- hand: Lua's own conversion rounds them to 14 digits.
local MAIN, LINE, PLACES, ENDED = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
local OFFER = 3000        -- ms: a grant handed over, until its first renewal
local STALE = 90000000    -- us: a place not seen for so long is removed
local REMEMBER = 120000   -- ms: how long an ended ticket is refused, and a line kept
local LASTS = 100000      -- ms: what a line has left, more than STALE, before it is kept anew
local DAY = 86400000      -- ms: what is not used any more
local LOOK = 30000        -- ms: the longest pause between two checks of a place

local time
local function now()
  if not time then
    local t = redis.call('TIME')
    time = tonumber(t[1]) * 1000000 + tonumber(t[2])
  end
  return time
end

local function number(x) return string.format('%.0f', x) end

local function subscribed(channel)
  local count = channel:sub(1, 1) == 's' and 'SHARDNUMSUB' or 'NUMSUB'
  return tonumber(redis.call('PUBSUB', count, channel:sub(3))[2]) > 0
end

local function tell(channel, message)
  local publish = channel:sub(1, 1) == 's' and 'SPUBLISH' or 'PUBLISH'
  redis.call(publish, channel:sub(3), message)
end

local function place(ticket)
  local record = redis.call('HGET', PLACES, ticket) or ''
  local seen, due, count, ttl, reserve, holds, channel, meta =
    record:match('^(%d+)\n(%d+)\n(%d+)\n(%d+)\n(%d+)\n(%d)\n([^\n]*)\n(.*)$')
  return seen and {ticket = ticket, seen = tonumber(seen), due = tonumber(due), count = count,
    ttl = tonumber(ttl), reserve = reserve, holds = holds, channel = channel, meta = meta}
end

local function keep(p)
  redis.call('HSET', PLACES, p.ticket, table.concat(
    {number(p.seen), number(p.due), p.count, number(p.ttl), p.reserve, p.holds, p.channel, p.meta}, '\n'))
end

-- stand keeps the caller's place, which looks again when the owner's time is up.
local function stand(ticket, left, count, ttl, reserve, holds, channel, meta, again)
  if left < 0 or left > LOOK then left = LOOK end
  keep({ticket = ticket, seen = now(), due = now() + left * 1000, count = count,
    ttl = tonumber(ttl), reserve = reserve, holds = holds, channel = channel, meta = meta})
  if again or redis.call('PTTL', PLACES) < LASTS then
    redis.call('PEXPIRE', PLACES, REMEMBER)
    redis.call('PEXPIRE', LINE, REMEMBER)
  end
end

-- restand is stand for a place that is there: with full memory it stays as it is. A
-- replica, which refuses too, must say so: the process has to find the primary.
local function restand(ticket, left, count, ttl, reserve, holds, channel, meta)
  local ok, err = pcall(stand, ticket, left, count, ttl, reserve, holds, channel, meta, true)
  if not ok and string.find(tostring(err), '^READONLY') then error({err = err}) end
end

local function leave(ticket)
  redis.call('ZREM', LINE, ticket)
  redis.call('HDEL', PLACES, ticket)
end

-- kin says whether two tickets are of one process.
local function kin(ticket, other)
  local process = ticket:match('^[^-]*-') or ticket
  return other:sub(1, #process) == process
end

-- want tells the process of the only place in line, which may pass on what it has
-- without end, that it should soon give it back.
local function want(ticket)
  local p = place(ticket)
  if p and p.holds == '1' then tell(p.channel, table.concat({'wanted', p.ticket, MAIN}, ' ')) end
end

-- append puts the ticket at the end of the line, if it does not stand there. A process
-- that stood there alone is told.
local function append(ticket)
  local tail = redis.call('ZREVRANGE', LINE, 0, 1, 'WITHSCORES')
  local added = redis.call('ZADD', LINE, 'NX', number((tonumber(tail[2] or nil) or 0) + 1), ticket)
  if added == 1 and #tail == 2 and not kin(ticket, tail[1]) then want(tail[1]) end
end

-- crowd says whether a process other than the ticket's stands in line, where each
-- does so once: 1 or 0.
local function crowd(ticket)
  local first = redis.call('ZRANGE', LINE, 0, 1)
  return (first[2] or first[1] and not kin(ticket, first[1])) and 1 or 0
end

-- remember has the ticket refused from now on.
local function remember(ticket)
  redis.call('ZREMRANGEBYSCORE', ENDED, '-inf', number(now() - REMEMBER * 1000))
  redis.call('ZADD', ENDED, number(now()), ticket)
  redis.call('PEXPIRE', ENDED, REMEMBER)
end

-- waiters counts those who wait in all processes, as these last told.
local function waiters()
  local n = 0
  for _, record in ipairs(redis.call('HVALS', PLACES)) do
    n = n + (tonumber(record:match('^%d+\n%d+\n(%d+)')) or 1)
  end
  return n
end

-- reachable finds the first place from at on that can be told, and removes those
-- that were not seen for long. own is the caller's ticket: it needs no message.
local function reachable(at, own)
  while true do
    local ticket = redis.call('ZRANGE', LINE, at, at)[1]
    if not ticket then return end
    local p = place(ticket)
    if p and ticket == own then
      return p, at
    elseif not p or now() - p.seen > STALE then
      leave(ticket)
    elseif subscribed(p.channel) then
      return p, at
    else
      at = at + 1
    end
  end
end

-- look tells the first reachable place from at on to look after so many ms, if it
-- would look later by itself.
local function look(at, ms)
  local p = reachable(at)
  local ends = now() + ms * 1000
  if p and p.due > ends + 100000 then
    p.due = ends
    keep(p)
    tell(p.channel, table.concat({'look', p.ticket, number(ms), MAIN}, ' '))
  end
end

-- over tells those who wait for a break that it has come to its end: channels, with a
-- tab between.
local function over(breakers)
  for channel in breakers:gmatch('[^\t]+') do
    tell(channel, 'over ' .. MAIN)
  end
end
