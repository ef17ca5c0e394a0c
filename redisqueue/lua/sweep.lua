-- sweep returns the claims of a consumer whose time is up to the head of the
-- queue, in order, an attempt counted. The consumer is looked at once more after
-- a while: a BLMOVE that it sent before may come late.
-- ARGV: after those of shared.lua 1 consumer
-- Returns {"done", how many came back}
local consumer = arg(1)
local ends = redis.call('ZSCORE', CONSUMERS, consumer)
if ends and tonumber(ends) > now then return {'done', 0} end
if watched then
  local answer = unknown(0)
  if answer then return answer end
end
local all = redis.call('LRANGE', OWN, 0, -1)
redis.call('DEL', OWN)
for i = #all, 1, -1 do
  local id, attempt, payload = named(all[i]):match('^([^ ]+) (%d+) (.*)$')
  attempt = math.min(tonumber(attempt) + 1, 999999999)
  redis.call('LPUSH', WAITING, id .. ' ' .. number(attempt) .. ' ' .. payload)
end
local first = redis.call('ZSCORE', GONE, consumer)
if ends then
  redis.call('ZREM', CONSUMERS, consumer)
  redis.call('HDEL', METADATA, consumer)
  redis.call('ZADD', GONE, number(now), consumer)
elseif first and tonumber(first) <= now - GRACE then
  redis.call('ZREM', GONE, consumer)
end
remember()
finished()
return {'done', #all}
