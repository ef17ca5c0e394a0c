-- state describes this member.
-- Returns {owner ("" free), ours 0/1, token, remaining ms, metadata}
local owner = redis.call('GET', LOCK)
if not owner then return {'', 0, '0', -2, ''} end
local h = redis.call('HMGET', HOLDER, 'member', 'rest', 'token', 'meta')
local ours = owner == h[1] or owner == h[2]
return {owner, ours and 1 or 0, ours and h[3] or '0', redis.call('PTTL', LOCK), ours and h[4] or ''}
