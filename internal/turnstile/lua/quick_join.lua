-- join in short, for a lock that is free and that nobody waits for. It is put in
-- front of all the others, and where it does not apply it changes nothing.
-- ARGV: those of join
-- Returns {"granted", first token, last token, remaining ms}, or what join returns
do
  local call, format = redis.call, string.format
  local ticket, channel, _, ttl, reserve, _, meta = unpack(ARGV)
  -- No holder, no line, and no ticket that has ended.
  if call('EXISTS', KEYS[1], KEYS[3], KEYS[5]) == 0 then
    local fence, t = tonumber(call('GET', KEYS[2])) or 0, call('TIME')
    local first = math.max(fence + 1, t[1] * 1000000 + t[2])
    local last = format('%.0f', first + math.max(reserve, 1) - 1)
    first = format('%.0f', first)
    call('SET', KEYS[1], ticket .. '\n' .. first .. '\n' .. last .. '\n' .. first .. '\n\n\n' .. channel .. '\n' .. meta, 'PX', ttl)
    call('SET', KEYS[2], last, 'PX', 86400000)
    return {'granted', first, last, tonumber(ttl)}
  end
end
