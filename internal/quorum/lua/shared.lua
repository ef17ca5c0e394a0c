-- Shared by all scripts of one member of a quorum; put in front of each.
--
-- KEYS, all with one hash tag:
--   1 string  the owner's ticket, or what another program put there; PX
--   2 hash    of the holder: member (its ticket), token (accepted here), meta,
--             and when asked for: revoke; rest instead of member while a
--             released lock rests (MinHold)
--   3 zset    ended tickets by time in us
--   4 string  the fencing counter
--
-- Times are microseconds of the server's clock, durations milliseconds. A
-- channel is "p:" or, sharded, "s:" and the name. Numbers are formatted by hand:
-- Lua's own conversion rounds them to 14 digits.
local LOCK, HOLDER, ENDED, FENCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local REMEMBER = 120000   -- ms: how long an ended ticket is refused
local DAY = 86400000      -- ms: what is not used any more

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function number(x) return string.format('%.0f', x) end

local function counter() return tonumber(redis.call('GET', FENCE)) or 0 end

-- owned says whether the ticket has this member; a released lock may rest under
-- its last ticket.
local function owned(ticket)
  return redis.call('GET', LOCK) == ticket and redis.call('HGET', HOLDER, 'member') == ticket
end

-- extend lets the lease run for at least ttl from now. It never shortens it: the
-- command may be late.
local function extend(ttl)
  if redis.call('PTTL', LOCK) < tonumber(ttl) then
    redis.call('PEXPIRE', LOCK, ttl)
    redis.call('PEXPIRE', HOLDER, ttl)
  end
end
