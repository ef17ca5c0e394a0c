-- bury puts an item that was taken among the dead letters.
-- ARGV: after those of shared.lua 1 id of the command, 2 envelope
-- Returns {"done", 1}
if not asked(arg(1)) then redis.call('RPUSH', DEAD, arg(2)) end
return {'done', 1}
