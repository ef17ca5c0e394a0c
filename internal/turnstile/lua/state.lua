-- state describes the lock.
-- Returns {owner ("" free), ours 0/1, token, remaining ms, metadata, waiters}
local owner = redis.call('GET', LOCK)
local waiters = 0
for _, record in ipairs(redis.call('HVALS', PLACES)) do
  waiters = waiters + (tonumber(record:match('^%d+\n%d+\n(%d+)')) or 1)
end
if not owner then return {'', 0, '0', -2, '', waiters} end
local h = redis.call('HMGET', HOLDER, 'ticket', 'turn', 'meta', 'rest')
local ours = owner == h[1] or owner == h[4]
return {owner, ours and 1 or 0, ours and h[2] or '0', redis.call('PTTL', LOCK), ours and h[3] or '', waiters}
