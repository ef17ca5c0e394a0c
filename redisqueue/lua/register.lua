-- register has a consumer's claims stand from now. It travels in front of each
-- BLMOVE, in one pipeline and in full, so that no list is filled by a consumer that
-- nobody knows. It stands alone, without shared.lua.
-- KEYS: consumers, those that are gone, about the queue
-- ARGV: 1 consumer, 2 ttl ms
-- Returns 1
local consumers, gone, about = unpack(KEYS)
local time = redis.call('TIME')
redis.call('ZREM', consumers, ARGV[1])
redis.call('ZREM', gone, ARGV[1])
redis.call('ZADD', consumers, string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[2] * 1000), ARGV[1])
-- A queue that is new or was deleted: as shared.lua has it lapse.
if redis.call('HEXISTS', about, 'max') == 0 then redis.call('PEXPIRE', consumers, 300000) end
return 1
