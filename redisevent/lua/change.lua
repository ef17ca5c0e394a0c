-- change sets, clears or pulses the event, once per id.
-- ARGV: 1 "set", "clear" or "pulse", 2 id, 3 ttl ms (0: stays), 4 channel, "p:"
--       or, sharded, "s:" and the name
-- Publishes "<number before> <number now> <changes> <ttl ms, 0: stays>" if it
-- changes the number.
-- Returns {number, changes}
local op, id, ttl, channel = unpack(ARGV)
local REMEMBER = 300000 -- ms: how long an id is known
local MOST = 10000      -- ids
if redis.call('ZSCORE', ASKED, id) then return {number(value), number(count)} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local before = value
local parity = op == 'set' and 1 or 0
if op == 'pulse' or value % 2 ~= parity then
  value = math.max(value + 1, now)
  if value % 2 ~= parity then value = value + 1 end
  count = count + 1
  redis.call('SET', VALUE, number(value))
  redis.call('SET', COUNT, number(count))
end
if before > 0 or value > 0 then
  for _, key in ipairs({VALUE, COUNT}) do
    if ttl == '0' then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, ttl) end
  end
end
redis.call('ZADD', ASKED, number(now), id)
redis.call('ZREMRANGEBYSCORE', ASKED, '-inf', number(now - REMEMBER * 1000))
redis.call('ZREMRANGEBYRANK', ASKED, 0, -MOST - 1)
redis.call('PEXPIRE', ASKED, REMEMBER)
if value ~= before then
  local publish = channel:sub(1, 1) == 's' and 'SPUBLISH' or 'PUBLISH'
  redis.call(publish, channel:sub(3), table.concat({number(before), number(value), number(count), ttl}, ' '))
end
return {number(value), number(count)}
