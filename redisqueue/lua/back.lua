-- back puts items that nobody has seen back to the head of the queue, in order.
-- ARGV: after those of shared.lua 1 id of the command, 2 "1": they are among the
--       caller's claims, 3… envelopes
-- Returns {"done", how many}
local claimed = arg(2) == '1'
-- A repeat must not take them from among the claims either: by now the same
-- consumer may have received them again.
if asked(arg(1)) then return {'done', 0} end
local count = 0
for i = args, 3, -1 do
  if not claimed or redis.call('LREM', OWN, 1, arg(i)) == 1 then
    redis.call('LPUSH', WAITING, claimed and named(arg(i)) or arg(i))
    count = count + 1
  end
end
if count > 0 then
  declare()
  remember()
end
return {'done', count}
