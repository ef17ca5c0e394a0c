-- break forbids the owner to keep this member. The key is not touched: it ends
-- when the owner has given it back or its lease runs out.
-- ARGV: 1 token of the turn to end ("0": whoever holds), 2 its ticket ("" not known)
-- Returns {"over"}, {"revoked", remaining ms, ticket}, or {"foreign"}: not one of ours
local token, ticket = unpack(ARGV)
local owner = redis.call('GET', LOCK)
if not owner then return {'over'} end
local h = redis.call('HMGET', HOLDER, 'member', 'rest', 'token')
if owner == h[2] then
  if token == '0' and ticket == '' then redis.call('DEL', LOCK, HOLDER) end
  return {'over'}
end
if owner ~= h[1] then return {'foreign'} end
if ticket ~= '' and ticket ~= owner then return {'over'} end
if ticket == '' and token ~= '0' and token ~= h[3] then return {'over'} end
redis.call('HSET', HOLDER, 'revoke', '1')
return {'revoked', redis.call('PTTL', LOCK), owner}
