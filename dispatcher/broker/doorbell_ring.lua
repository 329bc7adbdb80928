-- Publishes the message of a channel and sets its mark. Does nothing if the mark is set, because somebody has rung
-- already, or if too many messages wait. Returns 1 if the bell is rung, by this call or an earlier one, else 0.
--
-- KEYS[1] the mark    KEYS[2] the queue    KEYS[3] the queue of accepting channels, which is used if KEYS[4] exists
-- ARGV[1] the life of the mark in seconds    ARGV[2] the message    ARGV[3] the most that wait in KEYS[2]

-- Anybody who can write here can leave a mark without an end, or a queue that is no list: neither may hold a lead back.
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left <= (ARGV[1] + ARGV[3]) * 1000 then
  return 1
end
local accepting = KEYS[2] == KEYS[3] or redis.call('EXISTS', KEYS[4]) == 1
local queue = accepting and KEYS[3] or KEYS[2]
local kind = redis.call('TYPE', queue).ok
if kind ~= 'list' and kind ~= 'none' then
  redis.call('DEL', queue)
end
local life = ARGV[1]
if not accepting then
  -- A run takes about a second at the most where others wait: the mark outlives the messages before this one.
  local waiting = redis.call('LLEN', queue)
  if waiting >= tonumber(ARGV[3]) then
    return 0
  end
  life = life + waiting
end
redis.call('LPUSH', queue, ARGV[2])
redis.call('SET', KEYS[1], '1', 'EX', life)
return 1
