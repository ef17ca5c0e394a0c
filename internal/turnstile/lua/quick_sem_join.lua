-- join in short, for a semaphore with a free permit that nobody waits for. It is put in
-- front of all the others, and where it does not apply it changes nothing.
-- ARGV: those of join
-- Returns {"granted", "1", last turn, remaining ms}, or what join returns
do
  local call, format = redis.call, string.format
  local ticket, channel, _, ttl, reserve, _, meta, limit = unpack(ARGV)
  -- No line, no ticket that has ended, and the limit is known.
  if call('EXISTS', KEYS[3], KEYS[5]) == 0 then
    local l, taken, t = call('HMGET', KEYS[6], 'declared', 'present'), call('ZCARD', KEYS[1]), call('TIME')
    local now = t[1] * 1000000 + t[2]
    local free = l[1] == limit and taken < (tonumber(l[2] or limit) or 0)
    if free and taken > 0 then -- none has ended, and none is this ticket's
      free = tonumber(call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) > now and not call('ZSCORE', KEYS[1], ticket)
    end
    if free then
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
  end
end
