-- delete removes the queue. What keeps a late command from doing harm stays, and
-- lapses: the ids of commands, the records of producers, the refused items.
-- Returns {"done", 1}
if not claimed() then
  local all = everybody()
  table.insert(all, 1, 'consumers')
  return all
end
for _, name in ipairs(everybody()) do redis.call('DEL', claims[name]) end
redis.call('DEL', WAITING, PARKED, ROOM, DELAYED, DEAD, ABOUT, CONSUMERS, METADATA, GONE, IDS)
tell(CHANNEL, 'deleted') -- and all is finished
return {'done', 1}
