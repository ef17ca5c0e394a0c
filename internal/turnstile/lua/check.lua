-- check asks how a ticket stands, says that its process lives, and extends the
-- lease if it has become the holder.
-- ARGV: 1 ticket, 2 channel, 3 count of waiters, 4 ttl ms, 5 tokens to reserve, 6 metadata
-- Returns what join returns, or {"unknown"}: not in line, join again with a new ticket
local ticket, channel, count, ttl, reserve, meta = unpack(ARGV)
local owner = redis.call('GET', LOCK)
if owner == ticket then
  if not owned(ticket, owner) then return {'unknown'} end -- released, and resting
  extend(ttl)
  return granted(ticket)
end
if not redis.call('ZSCORE', LINE, ticket) then return {'unknown'} end
if not owner then
  -- First hand out, then write: with full memory the first write of a script
  -- must be one that frees.
  pump(ticket)
  owner = redis.call('GET', LOCK)
  if owner == ticket then
    extend(ttl)
    return granted(ticket)
  end
end
local left = redis.call('PTTL', LOCK)
pcall(stand, ticket, left, count, ttl, reserve, channel, meta)
return answer(ticket, channel, owner, left)
