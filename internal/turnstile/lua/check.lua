-- check asks how a ticket stands, says that its process lives, and extends the
-- lease if it has become the holder.
-- ARGV: 1 ticket, 2 channel, 3 count of waiters, 4 ttl ms, 5 tokens to reserve,
--       6 what it says to join, 7 metadata
-- Returns what join returns, where a fifth "1" behind "granted" says that the ticket had the
-- lock before this command; or {"unknown"}: not in line, join again with a new ticket
local ticket, channel, count, ttl, reserve, holds, meta = unpack(ARGV)
local value = redis.call('GET', LOCK)
local h = read(value)
if h and h.ticket == ticket then
  if not owned(ticket, h) then return {'unknown'} end -- released, and resting
  extend(ttl)
  local g = granted(h)
  g[5] = '1'
  return g
end
if not redis.call('ZSCORE', LINE, ticket) then return {'unknown'} end
if not value then
  -- First hand out, then write: with full memory the first write of a script
  -- must be one that frees.
  pump(ticket)
  value = redis.call('GET', LOCK)
  h = read(value)
  if owned(ticket, h) then
    extend(ttl)
    return granted(h)
  end
end
local left = redis.call('PTTL', LOCK)
restand(ticket, left, count, ttl, reserve, holds, channel, meta)
return answer(ticket, channel, value, left)
