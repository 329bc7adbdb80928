-- Removes permits that were granted and not used, so that they can be granted again.
--
-- KEYS[1]   what Voicery announced for the account (hash: at, hold, remaining, reset)
-- KEYS[2..] the logs that the permits were taken in
-- ARGV      the permits
--
-- Each permit was also counted in what Voicery announced to remain, where an announcement was in force. It is counted back
-- unless Voicery has announced anything since: the newer number may not know of it. Without this, runs that find nothing to
-- send use up the announced rest, and nobody sends until its reset.

local announced = {}
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  announced = redis.call('HMGET', KEYS[1], 'at', 'reset')
end
local at, reset = tonumber(announced[1] or ''), tonumber(announced[2] or '')
local back = 0
for _, permit in ipairs(ARGV) do
  local taken_at = tonumber(redis.call('ZSCORE', KEYS[2], permit) or '')
  if taken_at and at and reset and at < taken_at and taken_at < reset then
    back = back + 1
  end
  for k = 2, #KEYS do
    redis.call('ZREM', KEYS[k], permit)
  end
end
if back > 0 then
  redis.call('HINCRBY', KEYS[1], 'remaining', back)
end
