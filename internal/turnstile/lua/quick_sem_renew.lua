-- renew in short, of a permit that nobody waits for. It is put in front of all the
-- others, and where it does not apply it changes nothing.
-- ARGV: those of renew
-- Returns {1, 0}, or what renew returns
do
  local call, format = redis.call, string.format
  local ticket, ttl, turn = unpack(ARGV)
  local at = call('EXISTS', KEYS[3]) == 0 and tonumber(call('ZSCORE', KEYS[1], ticket) or nil)
  local t = at and call('TIME')
  local now = t and t[1] * 1000000 + t[2]
  -- It has not ended, and would before this renewal; nobody has asked for its end, and the turn is known.
  if at and at > now and at < now + ttl * 1000
    and (call('HGET', KEYS[2], ticket) or ''):match('^%d+\n(%d+)\n\n') == turn then
    local l = call('HMGET', KEYS[6], 'declared', 'present')
    if call('ZCARD', KEYS[1]) <= (tonumber(l[2] or l[1] or nil) or 0)
      and type(redis.pcall('ZADD', KEYS[1], format('%.0f', now + ttl * 1000), ticket)) == 'number' then
      if call('PTTL', KEYS[1]) < ttl + 1000 then
        call('PEXPIRE', KEYS[1], format('%.0f', ttl * 1.1 + 1000))
        call('PEXPIRE', KEYS[2], format('%.0f', ttl * 1.1 + 1000))
      elseif call('PTTL', KEYS[2]) < ttl + 1000 then
        call('PEXPIRE', KEYS[2], format('%.0f', ttl * 1.1 + 1000))
      end
      if call('PTTL', KEYS[6]) < 86400000 + ttl then call('PEXPIRE', KEYS[6], format('%.0f', 172800000 + ttl)) end
      return {1, 0}
    end
  end
end
