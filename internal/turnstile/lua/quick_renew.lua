-- renew in short, of a lock that nobody waits for. It is put in front of all the
-- others, and where it does not apply it changes nothing.
-- ARGV: those of renew
-- Returns {1, 0}, or what renew returns
do
  local call = redis.call
  local ticket, ttl, turn = unpack(ARGV)
  local value = call('GET', KEYS[1])
  -- Nobody has asked for its end, and the turn is known.
  if value and value:sub(1, #ticket + 1) == ticket .. '\n' and turn ~= '0'
    and value:match('^%d+\n%d+\n(%d+)\n\n', #ticket + 2) == turn
    and call('EXISTS', KEYS[3]) == 0 and (ttl == '0' or call('PEXPIRE', KEYS[1], ttl, 'GT') == 1) then
    return {1, 0}
  end
end
