-- Publishes the message of a channel and sets its mark, or does nothing if the mark is set: somebody has rung already.
--
-- KEYS[1] the mark    KEYS[2] the queue    ARGV[1] the life of the mark in seconds    ARGV[2] the message

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('LPUSH', KEYS[2], ARGV[2])
  redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
end
