-- open compares the limit for somebody who waits behind others of its process.
-- ARGV: 1 id, 2 limit, 3 "refuse", "adopt" or "replace" another limit
-- Returns {"open"} or {"mismatch", declared limit, present limit}
local id, limit, policy = unpack(ARGV)
local refusal = agree(id, limit, policy)
if refusal then return refusal end
pump()
return {'open'}
