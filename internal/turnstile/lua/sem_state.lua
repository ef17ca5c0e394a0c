-- state describes the semaphore.
-- ARGV: 1 how many permits to list
-- Returns {declared limit ("" not known), present limit, taken, waiters} and for
--       each permit, the first to end first: ticket, turn ("0": rests), remaining ms, metadata
local l = redis.call('HMGET', LIMIT, 'declared', 'present')
local taken = redis.call('ZCOUNT', PERMITS, '(' .. number(now()), '+inf')
local result = {l[1] or '', l[2] or l[1] or '', taken, waiters()}
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', PERMITS, '(' .. number(now()), '+inf', 'LIMIT', 0, ARGV[1])) do
  local h = holder(ticket) or {turn = '0', meta = '', at = ends(ticket)}
  for _, x in ipairs({ticket, h.turn, msUntil(h.at), h.meta}) do
    result[#result + 1] = x
  end
end
return result
