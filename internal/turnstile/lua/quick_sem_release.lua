-- release in short, of a permit that nobody waits for. It is put in front of all
-- the others, and where it does not apply it changes nothing.
-- ARGV: those of release
-- Returns {1}, or what release returns
do
  local call = redis.call
  local ticket, _, rest, ended, own = unpack(ARGV)
  if rest == '0' and ended == '0' and own == '' and call('EXISTS', KEYS[3]) == 0 then
    local at = call('ZSCORE', KEYS[1], ticket)
    local t = at and call('TIME')
    -- None has ended, and this one does not rest, and nobody has asked for its end.
    if at and tonumber(call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) > t[1] * 1000000 + t[2]
      and (call('HGET', KEYS[2], ticket) or ''):find('^%d+\n%d+\n\n[^\n]*\n\n') then
      call('HDEL', KEYS[2], ticket)
      call('ZREM', KEYS[1], ticket)
      return {1}
    end
  end
end
