-- state describes the queue.
-- Returns {"state", waiting, parked, delayed, dead, max, codec, shutdown 0/1,
--       {consumer, metadata, claims, ms left, …}}
if not claimed() then
  local all = everybody()
  table.insert(all, 1, 'consumers')
  return all
end
local consumers = {}
for _, name in ipairs(everybody()) do
  local ends = tonumber(redis.call('ZSCORE', CONSUMERS, name) or now)
  local count = redis.call('LLEN', claims[name])
  if ends > now or count > 0 then
    for _, x in ipairs({name, redis.call('HGET', METADATA, name) or '', count, math.ceil((ends - now) / 1000)}) do
      consumers[#consumers + 1] = x
    end
  end
end
return {'state', waiting, redis.call('ZCARD', PARKED), redis.call('ZCARD', DELAYED), redis.call('LLEN', DEAD),
  number(max), about[2] or '', shutdown and 1 or 0, consumers}
