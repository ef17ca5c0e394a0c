-- check asks how a ticket stands, says that its process lives, and extends the
-- lease if it has become the holder.
-- ARGV: 1 ticket, 2 channel, 3 count of waiters, 4 ttl ms, 5 tokens to reserve, 6 metadata
-- Returns what join returns, or {"unknown"}: not in line, join again with a new ticket
local ticket, channel, count, ttl, reserve, meta = unpack(ARGV)
if owned(ticket) then
  extend(ttl)
  return granted(ticket)
end
if redis.call('HEXISTS', PLACES, ticket) == 0 or not redis.call('ZSCORE', LINE, ticket) then
  return {'unknown'}
end
-- First hand out, then write: with full memory the first write of a script
-- must be one that frees.
pump(ticket)
if owned(ticket) then
  extend(ttl)
  return granted(ticket)
end
pcall(stand, ticket, count, ttl, reserve, channel, meta)
return answer(ticket, channel)
