-- check asks how a ticket stands, says that its process lives, and extends the
-- permit if it has got one.
-- ARGV: 1 ticket, 2 channel, 3 count of waiters, 4 ttl ms, 5 turns to reserve,
--       6 what it says to join, 7 metadata, 8 limit, 9 what join does with another one
-- Returns what join returns, where a fifth "1" behind "granted" says that the ticket had the
-- permit before this command; or {"unknown"}: not in line, join again with a new ticket
local ticket, channel, count, ttl, reserve, holds, meta, limit = unpack(ARGV)
local h = holder(ticket)
local handed = h and '1' or nil
if not h then
  local before = redis.call('ZRANK', LINE, ticket)
  if not before then return {'unknown'} end
  local n, known = free()
  if not known and pcall(agree, ticket, limit, 'adopt') then n = free() end -- it was evicted
  if n > 0 then
    -- First hand out, then write: with full memory the first write of a script
    -- must be one that frees.
    pump(ticket)
    h = holder(ticket)
    before = redis.call('ZRANK', LINE, ticket)
  end
  if not h then
    local left = patience(before)
    restand(ticket, left, count, ttl, reserve, holds, channel, meta)
    return waiting(ticket, channel, left)
  end
end
extend(h, tonumber(ttl))
local g = granted(h)
g[5] = handed
return g
