-- join takes a permit, or stands in line for one.
-- ARGV: 1 ticket, 2 channel, 3 count of waiters, 4 ttl ms, 5 turns to reserve,
--       6 "1": the process has a permit already, and passes it on, else "0",
--       7 metadata, 8 limit, 9 "refuse", "adopt" or "replace" another limit,
--       10 "1": one attempt, do not stand in line
-- Returns {"granted", "1", last turn, remaining ms}
--      or {"waiting", ms until the next permit ends (-1 none), channel subscribed 0/1, 0,
--          another process in line, or more taken than the limit 0/1}
--      or {"ended"}: this ticket was withdrawn
--      or {"mismatch", declared limit, present limit}
local ticket, channel, count, ttl, reserve, holds, meta, limit, policy, try = unpack(ARGV)
if redis.call('ZSCORE', ENDED, ticket) then return {'ended'} end
if ends(ticket) then
  local h = holder(ticket)
  return h and granted(h) or {'ended'} -- it is resting after its release
end
local line = redis.call('ZCARD', LINE)
local stands = line > 0 and redis.call('ZSCORE', LINE, ticket)
if not stands then
  local refusal = agree(ticket, limit, policy)
  if refusal then return refusal end
end
if try == '1' then
  pump()
  if free() <= 0 then return answer(ticket, channel) end
elseif line > 0 or free() <= 0 then
  if not stands then append(ticket) end
  local left = patience(redis.call('ZRANK', LINE, ticket))
  stand(ticket, left, count, ttl, reserve, holds, channel, meta)
  if free() <= 0 then return waiting(ticket, channel, left) end
  pump(ticket)
  return answer(ticket, channel)
end
purge()
return granted(grant(ticket, tonumber(ttl), reserve, channel, meta))
