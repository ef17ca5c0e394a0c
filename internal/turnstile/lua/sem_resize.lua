-- resize moves the present limit, once per id. Permits that are taken stay so.
-- ARGV: 1 id, 2 limit of the caller, 3 "refuse", "adopt" or "replace" another
--       limit, 4 new limit
-- Returns {"done"} or {"mismatch", declared limit, present limit}
local id, limit, policy, new = unpack(ARGV)
if redis.call('ZSCORE', CHANGES, id) then return {'done'} end
local refusal = agree(id, limit, policy)
if refusal then return refusal end
changed(id)
redis.call('HSET', LIMIT, 'present', new)
moved()
pump()
return {'done'}
