-- Shared by all scripts of the lock; put in front of each.
--
-- KEYS, all with one hash tag:
--   1 string  the owner's ticket, or what another program put there; PX
--   2 hash    of the holder: ticket, token and last (the reserved range), turn
--             (the token of the latest renewal), channel, meta, and when asked
--             for: revoke (a token, 0 for any), breakers (channels, a line
--             each); rest instead of ticket while a released lock rests (MinHold)
--   3 zset    the line: ticket by number
--   4 hash    places: ticket -> seen, due (when it looks again by itself), count,
--             ttl, reserve, channel, meta
--   5 zset    ended tickets by time in us
--   6 string  the fencing counter
--
-- Times are microseconds of the server's clock, durations milliseconds.
-- A channel is "p:" or, sharded, "s:" and the name. Numbers are formatted by
-- hand: Lua's own conversion rounds them to 14 digits.
local LOCK, HOLDER, LINE, PLACES, ENDED, FENCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local OFFER = 3000        -- ms: a grant handed over, until its first renewal
local STALE = 90000000    -- us: a place not seen for so long is removed
local REMEMBER = 120000   -- ms: how long an ended ticket is refused
local DAY = 86400000      -- ms: an unused fencing counter
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

-- owned says whether the ticket is the holder's; a released lock may rest under
-- its last ticket.
local function owned(ticket, owner)
  return owner == ticket and redis.call('HGET', HOLDER, 'ticket') == ticket
end

-- grant makes the ticket the holder of a free lock. It reads before it writes:
-- an error must leave nothing.
local function grant(ticket, ttl, reserve, channel, meta)
  redis.call('HLEN', HOLDER)
  local first = math.max((tonumber(redis.call('GET', FENCE)) or 0) + 1, now())
  redis.call('SET', LOCK, ticket, 'NX', 'PX', ttl)
  local last = first + math.max(tonumber(reserve), 1) - 1
  redis.call('SET', FENCE, number(last), 'PX', DAY)
  redis.call('DEL', HOLDER)
  redis.call('HSET', HOLDER, 'ticket', ticket, 'token', number(first), 'last', number(last),
    'turn', number(first), 'channel', channel, 'meta', meta)
  redis.call('PEXPIRE', HOLDER, ttl)
  return number(first), number(last)
end

-- extend lets the lease run for at least ttl from now. It never shortens it: the
-- command may be late, and meant for an earlier turn on other terms.
local function extend(ttl)
  if redis.call('PTTL', LOCK) < tonumber(ttl) then
    redis.call('PEXPIRE', LOCK, ttl)
    redis.call('PEXPIRE', HOLDER, ttl)
  end
end

-- granted is the answer to the holder's own ticket.
local function granted(ticket)
  local h = redis.call('HMGET', HOLDER, 'token', 'last')
  return {'granted', h[1], h[2], redis.call('PTTL', LOCK)}
end

local function place(ticket)
  local record = redis.call('HGET', PLACES, ticket) or ''
  local seen, due, count, ttl, reserve, channel, meta =
    record:match('^(%d+)\n(%d+)\n(%d+)\n(%d+)\n(%d+)\n([^\n]*)\n(.*)$')
  return seen and {ticket = ticket, seen = tonumber(seen), due = tonumber(due), count = count,
    ttl = tonumber(ttl), reserve = reserve, channel = channel, meta = meta}
end

local function keep(p)
  redis.call('HSET', PLACES, p.ticket, table.concat(
    {number(p.seen), number(p.due), p.count, number(p.ttl), p.reserve, p.channel, p.meta}, '\n'))
end

-- stand keeps the caller's place, which looks again when the owner's time is up.
local function stand(ticket, left, count, ttl, reserve, channel, meta)
  if left < 0 or left > LOOK then left = LOOK end
  keep({ticket = ticket, seen = now(), due = now() + left * 1000, count = count,
    ttl = tonumber(ttl), reserve = reserve, channel = channel, meta = meta})
  redis.call('PEXPIRE', PLACES, REMEMBER)
  redis.call('PEXPIRE', LINE, REMEMBER)
end

local function leave(ticket)
  redis.call('ZREM', LINE, ticket)
  redis.call('HDEL', PLACES, ticket)
end

-- reachable finds the first place from at on that can be told, and removes those
-- that were not seen for long. own is the caller's ticket: it needs no message.
local function reachable(at, own)
  while true do
    local ticket = redis.call('ZRANGE', LINE, at, at)[1]
    if not ticket then return end
    local p = place(ticket)
    if p and ticket == own then
      return p
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
    tell(p.channel, table.concat({'look', p.ticket, number(ms), LOCK}, ' '))
  end
end

-- pump hands a free lock to the first reachable place. The caller's own gets
-- its full TTL, because it knows when it sent this command. Of another nobody
-- knows whether it still runs: it gets a short offer, and the place behind it
-- is told if it would not look when that has ended.
local function pump(own)
  if redis.call('EXISTS', LOCK) == 1 then return end
  local p, at = reachable(0, own)
  if not p then return end
  leave(p.ticket)
  if p.ticket == own then
    grant(own, number(p.ttl), p.reserve, p.channel, p.meta)
    return
  end
  local offer = math.min(p.ttl, OFFER)
  local first, last = grant(p.ticket, number(offer), p.reserve, p.channel, p.meta)
  tell(p.channel, table.concat({'grant', p.ticket, first, last, number(offer), LOCK}, ' '))
  look(at, offer)
end

-- answer tells a ticket in line how things stand with this owner, whose time is
-- up in so many ms.
local function answer(ticket, channel, owner, left)
  if owned(ticket, owner) then return granted(ticket) end
  local h = redis.call('HMGET', HOLDER, 'ticket', 'rest')
  local foreign = owner and owner ~= h[1] and owner ~= h[2]
  return {'waiting', left, subscribed(channel) and 1 or 0, foreign and 1 or 0}
end

-- over tells those who wait for a break that it has come to its end.
local function over(breakers)
  for channel in (breakers or ''):gmatch('[^\n]+') do
    tell(channel, 'over ' .. LOCK)
  end
end
