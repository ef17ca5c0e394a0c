-- join in short, for a lock that is free and that nobody waits for, or that another of
-- ours has. It is put in front of all the others, and where it does not apply it changes
-- nothing.
-- ARGV: those of join
-- Returns {"granted", first token, last token, remaining ms},
--      or {"waiting", remaining ms, channel subscribed 0/1, 0, another process in line 0/1},
--      or what join returns
do
  local call, format = redis.call, string.format
  local ticket, channel, count, ttl, reserve, holds, meta, try = unpack(ARGV)
  -- No holder, no line, and no ticket that has ended.
  if call('EXISTS', KEYS[1], KEYS[3], KEYS[5]) == 0 then
    local t = call('TIME')
    local first = t[1] * 1000000 + t[2]
    local more = count == '1' and 0 or math.max(reserve, 1) - 1
    local last = format('%.0f', first + more)
    local fence = tonumber(call('SET', KEYS[2], last, 'PX', 86400000, 'GET') or nil)
    if fence and fence >= first and fence < 9e15 then -- the clock is behind
      first = fence + 1
      last = format('%.0f', first + more)
      call('SET', KEYS[2], last, 'PX', 86400000)
    end
    first = format('%.0f', first)
    call('SET', KEYS[1], ticket .. '\n' .. first .. '\n' .. last .. '\n' .. first .. '\n\n\n' .. channel .. '\n' .. meta, 'PX', ttl)
    return {'granted', first, last, tonumber(ttl)}
  end
  local value = try == '0' and call('GET', KEYS[1])
  if value and value:find('^[^\n]*\n%d+\n%d+\n%d+\n%d*\n[^\n]*\n[^\n]*\n') and value:sub(1, #ticket + 1) ~= ticket .. '\n'
    and not call('ZSCORE', KEYS[5], ticket) then
    local tail = call('ZREVRANGE', KEYS[3], 0, 1, 'WITHSCORES')
    -- A process that stands in line alone, and passes on what it has, is to be told.
    if #tail ~= 2 or (call('HGET', KEYS[4], tail[1]) or ''):find('^%d+\n%d+\n%d+\n%d+\n%d+\n0\n') then
      local left, t = call('PTTL', KEYS[1]), call('TIME')
      local now = t[1] * 1000000 + t[2]
      call('ZADD', KEYS[3], 'NX', format('%.0f', (tail[2] or 0) + 1), ticket)
      local due = now + (left >= 0 and math.min(left, 30000) or 30000) * 1000
      call('HSET', KEYS[4], ticket, format('%.0f\n%.0f\n', now, due) .. count .. '\n' .. ttl .. '\n' .. reserve .. '\n' ..
        holds .. '\n' .. channel .. '\n' .. meta)
      if call('PTTL', KEYS[4]) < 100000 then
        call('PEXPIRE', KEYS[4], 120000)
        call('PEXPIRE', KEYS[3], 120000)
      end
      local hears = call('PUBSUB', channel:sub(1, 1) == 's' and 'SHARDNUMSUB' or 'NUMSUB', channel:sub(3))[2]
      return {'waiting', left, tonumber(hears) > 0 and 1 or 0, 0, tail[3] and 1 or tail[1] and tail[1] ~= ticket and 1 or 0}
    end
  end
end
