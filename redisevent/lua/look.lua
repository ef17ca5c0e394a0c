-- look reads the event.
-- Returns {number, changes, remaining ms (-1: stays, -2: absent)}
return {number(value), number(count), redis.call('PTTL', VALUE)}
