-- Shared by all scripts of the lock; put in front of each.
--
-- KEYS, all with one hash tag:
--   1 string  the owner's ticket, or what another program put there; PX
--   2 hash    of the holder: ticket, token and last (the reserved range), turn
--             (the token of the latest renewal), channel, meta, and when asked
--             for: revoke (a token, 0 for any), breakers (channels, a line
--             each); rest instead of ticket while a released lock rests (MinHold)
--   3 zset    the line: ticket by number
--   4 hash    places: ticket -> seen, count, ttl, reserve, channel, meta
--   5 zset    ended tickets by time in us
--   6 string  the fencing counter
--
-- Times are microseconds of the server's clock, durations milliseconds.
-- A channel is "p:" or, sharded, "s:" and the name. Numbers are formatted by
-- hand: Lua's own conversion rounds them to 14 digits.
local LOCK, HOLDER, LINE, PLACES, ENDED, FENCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local OFFER = 3000        -- ms: a grant handed over, until its first renewal
local STALE = 60000000    -- us: a place not seen for so long is removed
local REMEMBER = 120000   -- ms: how long an ended ticket is refused
local DAY = 86400000      -- ms: an unused fencing counter

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function number(x) return string.format('%.0f', x) end

local function subscribed(channel)
  local count = channel:sub(1, 1) == 's' and 'SHARDNUMSUB' or 'NUMSUB'
  return tonumber(redis.call('PUBSUB', count, channel:sub(3))[2]) > 0
end

local function tell(channel, message)
  local publish = channel:sub(1, 1) == 's' and 'SPUBLISH' or 'PUBLISH'
  redis.call(publish, channel:sub(3), message)
end

local function owned(ticket)
  return redis.call('GET', LOCK) == ticket and redis.call('HGET', HOLDER, 'ticket') == ticket
end

-- grant makes the ticket the holder of a free lock.
local function grant(ticket, ttl, reserve, channel, meta)
  redis.call('SET', LOCK, ticket, 'NX', 'PX', ttl)
  local first = math.max((tonumber(redis.call('GET', FENCE)) or 0) + 1, now)
  local last = first + math.max(tonumber(reserve), 1) - 1
  redis.call('SET', FENCE, number(last), 'PX', DAY)
  redis.call('DEL', HOLDER)
  redis.call('HSET', HOLDER, 'ticket', ticket, 'token', number(first), 'last', number(last),
    'turn', number(first), 'channel', channel, 'meta', meta)
  redis.call('PEXPIRE', HOLDER, ttl)
  return number(first), number(last)
end

-- granted is the answer to the holder's own ticket.
local function granted(ticket)
  local h = redis.call('HMGET', HOLDER, 'token', 'last')
  return {'granted', h[1], h[2], redis.call('PTTL', LOCK)}
end

local function stand(ticket, count, ttl, reserve, channel, meta)
  local record = table.concat({number(now), count, ttl, reserve, channel, meta}, '\n')
  redis.call('HSET', PLACES, ticket, record)
  redis.call('PEXPIRE', PLACES, REMEMBER)
  redis.call('PEXPIRE', LINE, REMEMBER)
end

local function leave(ticket)
  redis.call('ZREM', LINE, ticket)
  redis.call('HDEL', PLACES, ticket)
end

-- pump hands a free lock to the first reachable place. own is the caller's
-- ticket: it needs no message, and gets its full TTL because it knows when it
-- sent this command.
local function pump(own)
  if redis.call('EXISTS', LOCK) == 1 then return end
  local at = 0
  while true do
    local ticket = redis.call('ZRANGE', LINE, at, at)[1]
    if not ticket then return end
    local record = redis.call('HGET', PLACES, ticket) or ''
    local seen, _, ttl, reserve, channel, meta = record:match('^(%d+)\n(%d+)\n(%d+)\n(%d+)\n([^\n]*)\n(.*)$')
    if seen and ticket == own then
      leave(ticket)
      grant(ticket, ttl, reserve, channel, meta)
      return
    elseif not seen or now - tonumber(seen) > STALE then
      leave(ticket)
    elseif subscribed(channel) then
      local offer = math.min(tonumber(ttl), OFFER)
      leave(ticket)
      local first, last = grant(ticket, number(offer), reserve, channel, meta)
      tell(channel, table.concat({'grant', ticket, first, last, number(offer), LOCK}, ' '))
      return
    else
      at = at + 1
    end
  end
end

-- answer tells a ticket in line how things stand.
local function answer(ticket, channel)
  if owned(ticket) then return granted(ticket) end
  local owner = redis.call('GET', LOCK)
  local h = redis.call('HMGET', HOLDER, 'ticket', 'rest')
  local foreign = owner and owner ~= h[1] and owner ~= h[2]
  return {'waiting', redis.call('PTTL', LOCK), subscribed(channel) and 1 or 0, foreign and 1 or 0}
end

-- over tells those who wait for a break that it has come to its end.
local function over(breakers)
  for channel in (breakers or ''):gmatch('[^\n]+') do
    tell(channel, 'over ' .. LOCK)
  end
end
