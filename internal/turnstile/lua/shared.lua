-- Shared by all scripts of the lock; put in front of each, behind line.lua.
--
-- KEYS, beside those of line.lua:
--   1 string  whose the lock is; PX. A holder of ours: ticket, first and last
--             (the reserved tokens), turn (the token of the latest renewal; 0: a
--             released lock that rests, for MinHold), revoke (a token, 0 for any,
--             if asked for), breakers (channels, a tab between), channel, meta, a
--             line each. Anything else is of another program
--   2 string  the fencing counter
local LOCK, FENCE = MAIN, KEYS[2]

local function record(h)
  return table.concat({h.ticket, h.first, h.last, h.turn, h.revoke, h.breakers, h.channel, h.meta}, '\n')
end

-- read tells whose the lock is: nil if it is free, or of another program.
local function read(value)
  if not value then return end
  local ticket, first, last, turn, revoke, breakers, channel, meta =
    value:match('^([^\n]*)\n(%d+)\n(%d+)\n(%d+)\n(%d*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  return ticket and {ticket = ticket, first = first, last = last, turn = turn, revoke = revoke,
    breakers = breakers, channel = channel, meta = meta}
end

-- owned says whether the ticket is the holder's; a released lock may rest under
-- its last ticket.
local function owned(ticket, h) return h and h.ticket == ticket and h.turn ~= '0' end

-- rewrite keeps the holder's record and its end. SET is refused when memory is
-- full, unless the script has removed something before.
local function rewrite(h)
  local set = redis.pcall('SET', LOCK, record(h), 'KEEPTTL')
  if set.err then
    local left = redis.call('PTTL', LOCK)
    redis.call('DEL', LOCK)
    redis.call('SET', LOCK, record(h), 'PX', math.max(left, 1))
  end
end

-- granted is the answer to the holder's own ticket.
local function granted(h, left) return {'granted', h.first, h.last, left or redis.call('PTTL', LOCK)} end

-- spent is the last token that is known to be used or reserved, beside the counter.
local spent = 0

-- grant makes the ticket the holder of a free lock. It reads before it writes:
-- an error must leave nothing. A counter that no clock can have made, and that a double
-- does not hold, is made anew.
local function grant(ticket, ttl, reserve, channel, meta)
  local fence = tonumber(redis.call('GET', FENCE) or nil) or 0
  if not (fence < 9e15) then fence = 0 end
  local first = math.max(fence + 1, spent + 1, now())
  local last = number(first + math.max(tonumber(reserve), 1) - 1)
  first = number(first)
  local h = {ticket = ticket, first = first, last = last, turn = first, revoke = '', breakers = '',
    channel = channel, meta = meta}
  redis.call('SET', LOCK, record(h), 'NX', 'PX', ttl)
  redis.call('SET', FENCE, last, 'PX', DAY)
  return h
end

-- extend lets the lease run for at least ttl from now. It never shortens it: the
-- command may be late, and meant for an earlier turn on other terms.
local function extend(ttl)
  if ttl ~= '0' and redis.call('PTTL', LOCK) < tonumber(ttl) then redis.call('PEXPIRE', LOCK, ttl) end
end

-- pump hands a free lock to the first reachable place. The caller's own gets
-- its full TTL, because it knows when it sent this command. Of another nobody
-- knows whether it still runs: it gets a short offer, and the place behind it
-- is told if it would not look when that has ended.
local function pump(own)
  local p, at = reachable(0, own)
  if not p then return end
  leave(p.ticket)
  if p.ticket == own then
    grant(own, number(p.ttl), p.reserve, p.channel, p.meta)
    return
  end
  local offer = math.min(p.ttl, OFFER)
  local h = grant(p.ticket, number(offer), p.reserve, p.channel, p.meta)
  tell(p.channel, table.concat({'grant', p.ticket, h.first, h.last, number(offer), LOCK}, ' '))
  look(at, offer)
end

-- answer tells a ticket how things stand with what is the lock's value, whose
-- time is up in so many ms.
local function answer(ticket, channel, value, left)
  local h = read(value)
  if owned(ticket, h) then return granted(h, left) end
  return {'waiting', left, subscribed(channel) and 1 or 0, value and not h and 1 or 0, crowd(ticket)}
end
