-- Shared by all scripts of the semaphore; put in front of each, behind line.lua.
--
-- KEYS, beside those of line.lua:
--   1 zset  permits that are taken: ticket by the time it ends, in us
--   2 hash  their holders: ticket -> last (turn its process may pass it on to),
--           turn (of the latest renewal), revoke (a turn, if asked for),
--           channel, breakers (channels, a tab between), meta, a line each. A
--           permit that rests after its release (MinHold) has none
--   6 hash  limit: declared (what semaphores are opened with) and present
--           (what Resize made of it)
--   7 zset  ids of changes of the limit by time in us
local PERMITS, HOLDERS, LIMIT, CHANGES = MAIN, KEYS[2], KEYS[6], KEYS[7]
local PURGE = 1000         -- ended permits that one script removes
local RECALL = 300000      -- ms: how long the id of a change is known
local CHANGED = 10000      -- ids
local STAGGER, LATEST = 10, 1000 -- ms: how much later each place looks than the one before

-- keepFor lets the keys of the permits outlive one that is taken for so many ms,
-- however times are rounded. The holders never live longer than the permits. A tenth
-- more spares the next ones this.
local function keepFor(ms)
  local least, most = ms + 1000, number(ms * 1.1 + 1000)
  if redis.call('PTTL', PERMITS) < least then
    redis.call('PEXPIRE', PERMITS, most)
  elseif redis.call('PTTL', HOLDERS) >= least then
    return
  end
  redis.call('PEXPIRE', HOLDERS, most)
end

-- used lets the limit outlive what is taken, waits or happened within the last
-- day. It is written once a day, not at every use.
local function used(ms)
  if redis.call('PTTL', LIMIT) < DAY + ms then redis.call('PEXPIRE', LIMIT, number(2 * DAY + ms)) end
end

-- changed notes that this id has changed the limit.
local function changed(id)
  redis.call('ZREMRANGEBYSCORE', CHANGES, '-inf', number(now() - RECALL * 1000))
  redis.call('ZREMRANGEBYRANK', CHANGES, 0, -CHANGED)
  redis.call('ZADD', CHANGES, number(now()), id)
  redis.call('PEXPIRE', CHANGES, RECALL)
end

-- limits are the declared and the present one, read once.
local known
local function limits()
  known = known or redis.call('HMGET', LIMIT, 'declared', 'present')
  return known
end

-- free says how many permits can be taken, less than 0 after the limit was
-- lowered, and whether there is a limit at all.
local function free()
  local l = limits()
  local limit = tonumber(l[2] or l[1])
  return (limit or 0) - redis.call('ZCOUNT', PERMITS, '(' .. number(now()), '+inf'), limit
end

-- moved takes in a limit that has changed. A process that stands in line alone is told
-- if more is taken than that.
local function moved()
  known = nil
  used(0)
  local first = redis.call('ZRANGE', LINE, 0, 1)
  if #first == 1 and free() < 0 then want(first[1]) end
end

-- pressed says whether another process than the ticket's stands in line, or more is
-- taken than the limit: 1 or 0.
local function pressed(ticket)
  return (crowd(ticket) == 1 or free() < 0) and 1 or 0
end

-- agree compares the limit that the caller was opened with: nil, or the
-- answer that refuses. policy is "refuse", "adopt" or "replace". What is not
-- there is made. id is the caller's: what it replaced it replaces once.
local function agree(id, limit, policy)
  local l = limits()
  if l[1] == limit or l[1] and policy == 'adopt' then return end
  if l[1] and policy == 'refuse' then return {'mismatch', l[1], l[2] or l[1]} end
  if l[1] then
    if redis.call('ZSCORE', CHANGES, id) then return end
    changed(id)
  end
  redis.call('HSET', LIMIT, 'declared', limit, 'present', limit)
  moved()
end

-- ends says when the permit ends, if it has not.
local function ends(ticket)
  local at = tonumber(redis.call('ZSCORE', PERMITS, ticket) or nil)
  return at and at > now() and at or nil
end

local function msUntil(at) return math.ceil((at - now()) / 1000) end

-- holder finds who holds the permit: nobody if it has ended, or rests.
local function holder(ticket)
  local at = ends(ticket)
  if not at then return end
  local last, turn, revoke, channel, breakers, meta = (redis.call('HGET', HOLDERS, ticket) or '')
    :match('^(%d+)\n(%d+)\n(%d*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  return last and {ticket = ticket, at = at, last = last, turn = turn, revoke = revoke, channel = channel,
    breakers = breakers, meta = meta}
end

local function record(h)
  return table.concat({h.last, h.turn, h.revoke, h.channel, h.breakers, h.meta}, '\n')
end

-- purge removes permits that have ended.
local function purge()
  if redis.call('ZCARD', PERMITS) == 0 then return end
  local ended = redis.call('ZRANGEBYSCORE', PERMITS, '-inf', number(now()), 'LIMIT', 0, PURGE)
  if #ended == 0 then return end
  redis.call('ZREM', PERMITS, unpack(ended))
  redis.call('HDEL', HOLDERS, unpack(ended))
end

-- take lets the permit, which is taken, end after so many ms. ZADD is refused
-- when memory is full, unless the script has removed something before.
local function take(ticket, ms)
  local added = redis.pcall('ZADD', PERMITS, number(now() + ms * 1000), ticket)
  if type(added) == 'table' then
    redis.call('ZREM', PERMITS, ticket)
    redis.call('ZADD', PERMITS, number(now() + ms * 1000), ticket)
  end
  keepFor(ms)
  used(ms)
end

-- grant gives the ticket a permit. It reads before it writes: an error must
-- leave nothing.
local function grant(ticket, ttl, reserve, channel, meta)
  redis.call('HLEN', HOLDERS)
  redis.call('ZADD', PERMITS, number(now() + ttl * 1000), ticket)
  local h = {ticket = ticket, at = now() + ttl * 1000, last = reserve, turn = '1', revoke = '', channel = channel,
    breakers = '', meta = meta}
  redis.call('HSET', HOLDERS, ticket, record(h))
  keepFor(ttl)
  used(ttl)
  return h
end

-- extend lets the permit run for at least ttl from now. It never shortens it: the
-- command may be late, and meant for an earlier turn on other terms.
local function extend(h, ttl)
  if h.at < now() + ttl * 1000 then
    take(h.ticket, ttl)
    h.at = now() + ttl * 1000
  else
    used(0)
  end
end

-- granted is the answer to a ticket with a permit: its turns are numbered from 1.
local function granted(h) return {'granted', '1', h.last, msUntil(h.at)} end

-- patience says in how many ms a ticket with so many before it in line should look
-- again: when the next permit ends, -1 if none will. Whoever looks then serves
-- all who wait, so those behind look a little later, and often need not.
local function patience(before)
  local first = redis.call('ZRANGEBYSCORE', PERMITS, '(' .. number(now()), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if not first then return -1 end
  return msUntil(tonumber(first)) + math.min(before * STAGGER, LATEST)
end

-- pump hands the free permits to the first reachable places, one to each. The
-- caller's own gets its full TTL, because it knows when it sent this command. Of
-- others nobody knows whether they still run: they get a short offer, and the
-- place behind them is told if it would not look when that has ended.
local function pump(own)
  purge()
  if redis.call('ZCARD', LINE) == 0 then return end
  local at, offered = 0, 0
  for _ = 1, free() do
    local p
    p, at = reachable(at, own)
    if not p then break end
    leave(p.ticket)
    if p.ticket == own then
      grant(own, p.ttl, p.reserve, p.channel, p.meta)
    else
      local offer = math.min(p.ttl, OFFER)
      grant(p.ticket, offer, p.reserve, p.channel, p.meta)
      tell(p.channel, table.concat({'grant', p.ticket, '1', p.reserve, number(offer), MAIN}, ' '))
      offered = math.max(offered, offer)
    end
  end
  if offered > 0 and at then look(at, offered) end
end

local function waiting(ticket, channel, left)
  return {'waiting', left, subscribed(channel) and 1 or 0, 0, pressed(ticket)}
end

-- answer tells a ticket how things stand.
local function answer(ticket, channel)
  local h = holder(ticket)
  if h then return granted(h) end
  return waiting(ticket, channel, patience(redis.call('ZRANK', LINE, ticket) or 0))
end
