-- release gives the permit back, or leaves the line, and hands over.
-- ARGV: 1 ticket, 2 last turn (of use to the lock only), 3 ms for which the permit
--       rests before it is free, 4 "1": remember the ticket as ended, 5 another
--       ticket of the caller in line ("" none), 6 the caller's channel
-- Returns {1 if the permit was the ticket's, else 0} and, for the other ticket,
--       what check returns
local ticket, _, rest, ended, own, channel = unpack(ARGV)
local h = holder(ticket)
if h then
  redis.call('HDEL', HOLDERS, ticket)
  if tonumber(rest) > 0 then
    take(ticket, tonumber(rest))
    look(0, tonumber(rest))
  else
    redis.call('ZREM', PERMITS, ticket)
  end
  over(h.breakers)
else
  leave(ticket)
end
if ended == '1' then remember(ticket) end
pump(own)
local result = {h and 1 or 0}
if own ~= '' then
  local known = holder(own) or redis.call('ZSCORE', LINE, own)
  for _, x in ipairs(known and answer(own, channel) or {'unknown'}) do
    result[#result + 1] = x
  end
end
return result
