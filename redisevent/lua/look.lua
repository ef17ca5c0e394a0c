-- look reads the event.
-- Returns {number, changes, remaining ms (-1: stays, -2: absent), server time us}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
return {number(value), number(count), redis.call('PTTL', VALUE), number(now)}
