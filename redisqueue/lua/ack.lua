-- ack finishes an item.
-- ARGV: after those of shared.lua 1 envelope
-- Returns {"done", 1, or 0: it is not among the caller's claims}
if watched then
  local answer = unknown(0)
  if answer then return answer end
end
local found = redis.call('LREM', OWN, 1, arg(1))
if found == 1 then
  remember()
  finished()
end
return {'done', found}
