-- Publishes the message of a channel and sets its mark, or does nothing if the mark is set: somebody has rung already.
--
-- KEYS[1] the mark    KEYS[2] the queue    ARGV[1] the life of the mark in seconds    ARGV[2] the message

-- Anybody who can write here can leave a mark without an end, or a queue that is no list: neither may hold a lead back.
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > ARGV[1] * 1000 then
  local kind = redis.call('TYPE', KEYS[2]).ok
  if kind ~= 'list' and kind ~= 'none' then
    redis.call('DEL', KEYS[2])
  end
  redis.call('LPUSH', KEYS[2], ARGV[2])
  redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
end
