-- release in short, of a permit whose end nobody has asked for, when nobody waits, or it is
-- the only free one and the first two processes in line can be told. It is put in front of
-- all the others, and where it does not apply it changes nothing.
-- ARGV: those of release
-- Returns {1} and, for the other ticket, {"waiting", ms until the next permit ends, channel
--       subscribed 0/1, 0, another process in line 0/1}, or what release returns
do
  -- What is read of the line may be of another type: giving back must not fail for that.
  local call, read, format = redis.call, redis.pcall, string.format
  local ticket, _, rest, ended, own, channel = unpack(ARGV)
  local at = rest == '0' and ended == '0' and call('ZSCORE', KEYS[1], ticket)
  local now, line
  if at then
    local t = call('TIME')
    now = t[1] * 1000000 + t[2]
    -- None has ended, and this one does not rest, and nobody has asked for its end.
    if tonumber(call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) > now
      and (call('HGET', KEYS[2], ticket) or ''):find('^%d+\n%d+\n\n[^\n]*\n\n') then
      line = read('ZRANGE', KEYS[3], 0, 3)
      if line.err then line = nil end
    end
  end
  if line and not line[1] and own == '' then
    call('HDEL', KEYS[2], ticket)
    call('ZREM', KEYS[1], ticket)
    return {1}
  end
  local rank = own == '' and 0 or nil -- of the other ticket, when the first is served
  for i = 2, line and #line or 0 do
    if line[i] == own then rank = i - 2 end
  end
  if line and line[4] and not rank and line[1] ~= own then
    rank = call('ZRANK', KEYS[3], own)
    rank = rank and rank - 1
  end
  local l = rank and line and line[1] and read('HMGET', KEYS[6], 'declared', 'present')
  if l and call('ZCARD', KEYS[1]) == tonumber(l[2] or l[1] or nil) then
    local records = read('HMGET', KEYS[4], line[1], line[2] or line[1])
    local seen, ttl, reserve, to, meta = (records[1] or ''):match('^(%d+)\n%d+\n%d+\n(%d+)\n(%d+)\n%d\n([^\n]*)\n(.*)$')
    local seen2, due2, to2 = (records[2] or ''):match('^(%d+)\n(%d+)\n%d+\n%d+\n%d+\n%d\n([^\n]*)\n')
    local kind = seen and seen2 and to:sub(1, 1)
    if kind and to2:sub(1, 1) == kind and (own == '' or channel:sub(1, 1) == kind) then
      local hear = call('PUBSUB', kind == 's' and 'SHARDNUMSUB' or 'NUMSUB', to:sub(3), to2:sub(3), (own ~= '' and channel or to):sub(3))
      local offer = math.min(ttl, 3000)
      -- Both live and listen, and the second will look when the offer has ended.
      if tonumber(hear[2]) > 0 and tonumber(hear[4]) > 0 and math.min(seen, seen2) >= now - 90000000
        and (not line[2] or tonumber(due2) <= now + offer * 1000 + 100000) then
        call('HDEL', KEYS[2], ticket)
        call('ZREM', KEYS[1], ticket)
        call('ZREM', KEYS[3], line[1])
        call('HDEL', KEYS[4], line[1])
        call('ZADD', KEYS[1], format('%.0f', now + offer * 1000), line[1])
        call('HSET', KEYS[2], line[1], reserve .. '\n1\n\n' .. to .. '\n\n' .. meta)
        local keep = format('%.0f', offer * 1.1 + 1000)
        if call('PTTL', KEYS[1]) < offer + 1000 then -- never less: others may rest for longer
          call('PEXPIRE', KEYS[1], keep)
          call('PEXPIRE', KEYS[2], keep)
        elseif call('PTTL', KEYS[2]) < offer + 1000 then
          call('PEXPIRE', KEYS[2], keep)
        end
        if call('PTTL', KEYS[6]) < 86400000 + offer then call('PEXPIRE', KEYS[6], format('%.0f', 172800000 + offer)) end
        call(kind == 's' and 'SPUBLISH' or 'PUBLISH', to:sub(3),
          'grant ' .. line[1] .. ' 1 ' .. reserve .. ' ' .. offer .. ' ' .. KEYS[1])
        if own == '' then return {1} end
        local left = math.ceil((tonumber(call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) - now) / 1000) + math.min(rank * 10, 1000)
        return {1, 'waiting', left, tonumber(hear[6]) > 0 and 1 or 0, 0, line[3] and 1 or 0}
      end
    end
  end
end
