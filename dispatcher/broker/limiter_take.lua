-- Takes permits in every window of every scope at once, or as many as the tightest of them leaves.
--
-- KEYS[1]   what Voicery announced for the account (hash: at, hold, remaining, reset)
-- KEYS[2..] one log of permits per scope (sorted set: permit -> when it was taken)
-- ARGV[1]   now in microseconds, or '' for Redis' own clock
-- ARGV[2]   permits wanted        ARGV[3] the name of this taking, unique
-- ARGV[4..] per log: the number of its windows, then permits and length in microseconds of each
--
-- Returns {granted, microseconds until one more is free, keys repaired, permits taken in each window before this call ...},
-- or {-1, 0, keys repaired} where permits are wanted from a log that this Redis does not know: it was restarted, emptied or
-- promoted. `limiter_seed.lua` makes it known, under the replication id, which a server changes in each of these cases: a
-- replica or a file holds the log too, without the last permits. The log itself has an entry 'known' of score -inf, so that
-- it is never empty: a server that evicts keys when its memory is full may evict the log and leave the id.
--
-- Whoever can write to Redis can write anything here. What is of another type, is no number, or holds longer than any
-- answer of Voicery may, is deleted: it would else hold delivery back for as long as it says, or for ever.

local function stamp(microseconds)
  return string.format('%.0f', microseconds)
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local granted = tonumber(ARGV[2])

local LONGEST = 3600000000 + 60000000 -- ANNOUNCED_MAX_SECONDS, and a minute for what was on its way
local repaired = 0
local function discard(key)
  redis.call('DEL', key)
  repaired = repaired + 1
end
local function is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end
for k = 2, #KEYS do
  if not is(KEYS[k], 'zset') then
    discard(KEYS[k])
    redis.call('DEL', KEYS[k] .. ':known')
  end
end
if not is(KEYS[1], 'hash') then
  discard(KEYS[1])
end
local announced = redis.call('HMGET', KEYS[1], 'at', 'hold', 'remaining', 'reset')
if redis.call('EXISTS', KEYS[1]) == 1 then
  for field = 1, 4 do
    announced[field] = tonumber(announced[field] or '')
  end
  local at, hold, remaining, reset = announced[1], announced[2], announced[3], announced[4]
  -- A comparison with NaN is false, so that it is discarded too.
  local sound = at and hold and remaining and reset and math.abs(at) < 1e17 and math.abs(remaining) < 1e15
    and hold - math.max(0, at - now) <= now + LONGEST and reset - math.max(0, at - now) <= now + LONGEST
    and remaining == math.floor(remaining)
  if not sound then
    discard(KEYS[1])
    announced = {false}
  end
end

if granted > 0 then
  local memory = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or '1'
  for k = 2, #KEYS do
    if not is(KEYS[k] .. ':known', 'string') or redis.call('GET', KEYS[k] .. ':known') ~= memory
      or not redis.call('ZSCORE', KEYS[k], 'known') then
      return {-1, 0, repaired}
    end
  end
end
local next_at = now
local windows = {}
local used_counts = {}
local lives = {}

local cursor = 4
for k = 2, #KEYS do
  local log = KEYS[k]
  -- A clock that was set back leaves permits in the future. They count as taken now: nobody waits longer than one
  -- window for it, and no window is exceeded.
  for _, permit in ipairs(redis.call('ZRANGEBYSCORE', log, '(' .. stamp(now), '+inf')) do
    redis.call('ZADD', log, 'XX', stamp(now), permit)
  end
  local longest = 0
  for _ = 1, tonumber(ARGV[cursor]) do
    local window = {log = log, permits = tonumber(ARGV[cursor + 1]), length = tonumber(ARGV[cursor + 2])}
    window.used = redis.call('ZCOUNT', log, '(' .. stamp(now - window.length), '+inf')
    granted = math.min(granted, window.permits - window.used)
    longest = math.max(longest, window.length)
    windows[#windows + 1] = window
    used_counts[#used_counts + 1] = window.used
    cursor = cursor + 2
  end
  cursor = cursor + 1
  redis.call('ZREMRANGEBYSCORE', log, '(-inf', stamp(now - longest))
  lives[k] = math.ceil(longest / 1000) + 60000
end

local hold, remaining, reset
if announced[1] then
  local set_back = math.max(0, announced[1] - now)
  hold = announced[2] - set_back
  remaining = announced[3]
  reset = announced[4] - set_back
  if set_back > 0 then
    redis.call('HSET', KEYS[1], 'at', stamp(now), 'hold', stamp(hold), 'reset', stamp(reset))
  end
  if now < hold then
    granted = 0
    next_at = hold
  end
  if now < reset then
    granted = math.min(granted, remaining)
  end
end

granted = math.max(0, granted)
if granted > 0 then
  for k = 2, #KEYS do
    for i = 1, granted do
      redis.call('ZADD', KEYS[k], stamp(now), ARGV[3] .. ':' .. i)
    end
    redis.call('PEXPIRE', KEYS[k], lives[k])
    redis.call('PEXPIRE', KEYS[k] .. ':known', lives[k])
  end
end

if announced[1] and now < reset then
  if granted > 0 then
    remaining = redis.call('HINCRBY', KEYS[1], 'remaining', -granted)
  end
  if remaining <= 0 then
    next_at = math.max(next_at, reset)
  end
end

for _, window in ipairs(windows) do
  local over = window.used + granted - window.permits
  if over >= 0 then
    local leaves = redis.call(
      'ZRANGEBYSCORE', window.log, '(' .. stamp(now - window.length), '+inf', 'WITHSCORES', 'LIMIT', over, 1)
    if leaves[2] then
      next_at = math.max(next_at, leaves[2] + window.length)
    end
  end
end

return {granted, math.ceil(next_at - now), repaired, unpack(used_counts)}
