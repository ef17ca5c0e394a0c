-- release gives the lock back, or leaves the line, and hands over.
-- ARGV: 1 ticket, 2 last token used ("" unknown), 3 ms for which the lock rests
--       before it is free, 4 "1": remember the ticket as ended, 5 another ticket
--       of the caller in line ("" none), 6 the caller's channel
-- Returns {1 if the lock was the ticket's, else 0} and, for the other ticket,
--       what check returns
local ticket, used, rest, ended, own, channel = unpack(ARGV)
local value = redis.call('GET', LOCK)
local h = read(value)
local mine = owned(ticket, h)
if mine then
  redis.call('DEL', LOCK)
  value = nil
  -- Tokens are given back before the counter has run ahead of the clock.
  spent = tonumber(h.last)
  if used ~= '' and spent > now() then
    if redis.call('GET', FENCE) == h.last then redis.call('SET', FENCE, used, 'PX', DAY) end
    spent = tonumber(used)
  end
  if tonumber(rest) > 0 then
    value = record({ticket = ticket, first = '0', last = '0', turn = '0', revoke = '', breakers = '',
      channel = '', meta = ''})
    redis.call('SET', LOCK, value, 'PX', rest)
    look(0, tonumber(rest))
  end
  over(h.breakers)
else
  leave(ticket)
end
if ended == '1' then remember(ticket) end
if not value then pump(own) end
local result = {mine and 1 or 0}
if own ~= '' then
  value = redis.call('GET', LOCK)
  local standing = owned(own, read(value)) or redis.call('ZSCORE', LINE, own)
  for _, x in ipairs(standing and answer(own, channel, value, redis.call('PTTL', LOCK)) or {'unknown'}) do
    result[#result + 1] = x
  end
end
return result
