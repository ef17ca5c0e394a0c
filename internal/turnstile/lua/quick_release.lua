-- release in short, of a lock whose end nobody has asked for, when nobody waits or the
-- first two processes in line can be told. It is put in front of all the others, and where
-- it does not apply it changes nothing.
-- ARGV: those of release
-- Returns {1} and, for the other ticket, {"waiting", remaining ms, channel subscribed 0/1, 0,
--       another process in line 0/1}, or what release returns
do
  -- What is read of the line may be of another type: giving back must not fail for that.
  local call, read, format = redis.call, redis.pcall, string.format
  local ticket, used, rest, ended, own, channel = unpack(ARGV)
  local value = rest == '0' and ended == '0' and call('GET', KEYS[1])
  local last, turn
  if value and value:sub(1, #ticket + 1) == ticket .. '\n' then
    last, turn = value:match('^%d+\n(%d+)\n(%d+)\n\n\n[^\n]*\n', #ticket + 2)
  end
  local line = last and turn ~= '0' and read('ZRANGE', KEYS[3], 0, 3)
  if line and line.err then line = nil end
  if line and not line[1] and own == '' then
    call('DEL', KEYS[1])
    if used ~= '' and used ~= last then
      local t = call('TIME')
      if tonumber(last) > t[1] * 1000000 + t[2] and call('GET', KEYS[2]) == last then
        call('SET', KEYS[2], used, 'PX', 86400000)
      end
    end
    return {1}
  end
  local stands = own == ''
  for i = 2, line and #line or 0 do stands = stands or line[i] == own end
  if line and line[1] and (stands or line[4] and line[1] ~= own and call('ZSCORE', KEYS[3], own)) then
    local records = read('HMGET', KEYS[4], line[1], line[2] or line[1])
    local seen, ttl, reserve, to, meta = (records[1] or ''):match('^(%d+)\n%d+\n%d+\n(%d+)\n(%d+)\n%d\n([^\n]*)\n(.*)$')
    local seen2, due2, to2 = (records[2] or ''):match('^(%d+)\n(%d+)\n%d+\n%d+\n%d+\n%d\n([^\n]*)\n')
    local kind = seen and seen2 and to:sub(1, 1)
    if kind and to2:sub(1, 1) == kind and (own == '' or channel:sub(1, 1) == kind) then
      local hear = call('PUBSUB', kind == 's' and 'SHARDNUMSUB' or 'NUMSUB', to:sub(3), to2:sub(3), (own ~= '' and channel or to):sub(3))
      local t, offer = call('TIME'), math.min(ttl, 3000)
      local now = t[1] * 1000000 + t[2]
      -- Both live and listen, and the second will look when the offer has ended.
      if tonumber(hear[2]) > 0 and tonumber(hear[4]) > 0 and math.min(seen, seen2) >= now - 90000000
        and (not line[2] or tonumber(due2) <= now + offer * 1000 + 100000) then
        call('DEL', KEYS[1])
        call('ZREM', KEYS[3], line[1])
        call('HDEL', KEYS[4], line[1])
        -- Tokens are given back before the counter has run ahead of the clock.
        local spent = tonumber(used ~= '' and tonumber(last) > now and used or last)
        local first, more = math.max(spent + 1, now), math.max(reserve, 1) - 1
        local final = format('%.0f', first + more)
        local fence = call('SET', KEYS[2], final, 'PX', 86400000, 'GET')
        fence = tonumber(fence or nil)
        if fence and fence >= first and fence < 9e15 then -- somebody has moved it
          first = fence + 1
          final = format('%.0f', first + more)
          call('SET', KEYS[2], final, 'PX', 86400000)
        end
        first = format('%.0f', first)
        call('SET', KEYS[1], line[1] .. '\n' .. first .. '\n' .. final .. '\n' .. first .. '\n\n\n' .. to .. '\n' .. meta, 'PX', offer)
        call(kind == 's' and 'SPUBLISH' or 'PUBLISH', to:sub(3),
          'grant ' .. line[1] .. ' ' .. first .. ' ' .. final .. ' ' .. offer .. ' ' .. KEYS[1])
        if own == '' then return {1} end
        return {1, 'waiting', offer, tonumber(hear[6]) > 0 and 1 or 0, 0, line[3] and 1 or 0}
      end
    end
  end
end
