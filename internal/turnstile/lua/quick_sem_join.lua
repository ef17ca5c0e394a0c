-- join in short, for a semaphore with a free permit that nobody waits for, or without one.
-- It is put in front of all the others, and where it does not apply it changes nothing.
-- ARGV: those of join
-- Returns {"granted", "1", last turn, remaining ms},
--      or {"waiting", ms until the next permit ends, channel subscribed 0/1, 0, another process
--          in line, or more taken than the limit 0/1},
--      or what join returns
do
  local call, format = redis.call, string.format
  local ticket, channel, count, ttl, reserve, holds, meta, limit, policy, try = unpack(ARGV)
  local known = call('EXISTS', KEYS[3], KEYS[5])
  local l, taken, t = call('HMGET', KEYS[6], 'declared', 'present'), call('ZCARD', KEYS[1]), call('TIME')
  local now, present = t[1] * 1000000 + t[2], tonumber(l[2] or l[1] or nil) or 0
  -- The limit is the caller's, no permit has ended, and none is this ticket's.
  local apt = l[1] == limit or known > 0 and l[1] and policy == 'adopt'
  local first = apt and taken > 0 and tonumber(call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
  apt = apt and (taken == 0 or first > now and not call('ZSCORE', KEYS[1], ticket))
  -- No line, and no ticket that has ended.
  if apt and known == 0 and taken < present then
    call('HSET', KEYS[2], ticket, reserve .. '\n1\n\n' .. channel .. '\n\n' .. meta) -- ZCARD has seen that ZADD can follow
    call('ZADD', KEYS[1], format('%.0f', now + ttl * 1000), ticket)
    local keep = format('%.0f', ttl * 1.1 + 1000)
    if taken == 0 or call('PTTL', KEYS[1]) < ttl + 1000 then -- never less: others may rest for longer
      call('PEXPIRE', KEYS[1], keep)
      call('PEXPIRE', KEYS[2], keep)
    elseif call('PTTL', KEYS[2]) < ttl + 1000 then
      call('PEXPIRE', KEYS[2], keep)
    end
    if call('PTTL', KEYS[6]) < 86400000 + ttl then call('PEXPIRE', KEYS[6], format('%.0f', 172800000 + ttl)) end
    return {'granted', '1', reserve, tonumber(ttl)}
  end
  if apt and try == '0' and taken > 0 and taken >= present and (known == 0 or not call('ZSCORE', KEYS[5], ticket)) then
    local tail = call('ZREVRANGE', KEYS[3], 0, 1, 'WITHSCORES')
    -- A process that stands in line alone, and passes on what it has, is to be told.
    if #tail ~= 2 or (call('HGET', KEYS[4], tail[1]) or ''):find('^%d+\n%d+\n%d+\n%d+\n%d+\n0\n') then
      call('ZADD', KEYS[3], 'NX', format('%.0f', (tail[2] or 0) + 1), ticket)
      local left = math.ceil((first - now) / 1000) + math.min(call('ZRANK', KEYS[3], ticket) * 10, 1000)
      call('HSET', KEYS[4], ticket, format('%.0f\n%.0f\n', now, now + math.min(left, 30000) * 1000) .. count .. '\n' .. ttl ..
        '\n' .. reserve .. '\n' .. holds .. '\n' .. channel .. '\n' .. meta)
      if call('PTTL', KEYS[4]) < 100000 then
        call('PEXPIRE', KEYS[4], 120000)
        call('PEXPIRE', KEYS[3], 120000)
      end
      local hears = call('PUBSUB', channel:sub(1, 1) == 's' and 'SHARDNUMSUB' or 'NUMSUB', channel:sub(3))[2]
      local pressed = tail[3] or tail[1] and tail[1] ~= ticket or taken > present
      return {'waiting', left, tonumber(hears) > 0 and 1 or 0, 0, pressed and 1 or 0}
    end
  end
end
