-- release in short, of a lock that nobody waits for. It is put in front of all the
-- others, and where it does not apply it changes nothing.
-- ARGV: those of release
-- Returns {1}, or what release returns
do
  local call = redis.call
  local ticket, used, rest, ended, own = unpack(ARGV)
  if rest == '0' and ended == '0' and own == '' and call('EXISTS', KEYS[3]) == 0 then
    local value = call('GET', KEYS[1])
    if value and value:sub(1, #ticket + 1) == ticket .. '\n' then
      -- Nobody has asked for its end.
      local last, turn = value:match('^%d+\n(%d+)\n(%d+)\n\n\n', #ticket + 2)
      if last and turn ~= '0' then
        call('DEL', KEYS[1])
        if used ~= '' and used ~= last then
          local t = call('TIME')
          if tonumber(last) > t[1] * 1000000 + t[2] and call('GET', KEYS[2]) == last then
            call('SET', KEYS[2], used, 'PX', 86400000)
          end
        end
        return {1}
      end
    end
  end
end
