-- Writes into logs that this Redis does not know which permits were used, as Postgres tells. A known log stays as it is; of
-- an unknown one, what was written before the loss was noticed is deleted, because Postgres tells it too.
--
-- KEYS[1..] logs of permits
-- ARGV[1]   now in microseconds, or '' for Redis' own clock
-- ARGV[2]   microseconds since the first call that found a log unknown, before which nothing is written
-- ARGV[3]   the name of this seeding, unique
-- ARGV[4]   the number of the log of look-ups, or 0. Without look-ups it lapses, while the log of the account, KEYS[1], is
--           used by leads: where that one is known, no permit of a look-up can be lacking in it, and none counts as used.
-- ARGV[5..] per log: its life in milliseconds, the number of pairs, then per pair: age in microseconds, permits
--
-- Returns 0, or the microseconds to wait before the next call.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local grace = tonumber(ARGV[2])
local memory = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or '1'
local lookups = tonumber(ARGV[4])
local cursor = 5
local wait = 0
local account_known = false
for k = 1, #KEYS do
  local log = KEYS[k]
  local life, pairs = tonumber(ARGV[cursor]), tonumber(ARGV[cursor + 1])
  cursor = cursor + 2
  local due = false
  local kind = redis.call('TYPE', log).ok
  if kind ~= 'zset' and kind ~= 'none' then
    redis.call('DEL', log, log .. ':known')
  end
  local known = redis.call('TYPE', log .. ':known').ok == 'string' and redis.call('GET', log .. ':known')
  local is_known = known == memory and redis.call('ZSCORE', log, 'known')
  local lapsed = k == lookups and account_known and not is_known
  if k == 1 then
    account_known = is_known
  end
  if lapsed then
    due = true
  elseif not is_known then
    redis.call('SET', log .. ':lost', string.format('%.0f', now), 'NX', 'PX', 60000)
    local lost = redis.call('TYPE', log .. ':lost').ok == 'string' and tonumber(redis.call('GET', log .. ':lost'))
    if not lost or not (lost <= now) then -- none of ours; NaN compares as false
      redis.call('DEL', log .. ':lost')
      redis.call('SET', log .. ':lost', string.format('%.0f', now), 'PX', 60000)
      lost = now
    end
    local since = now - lost
    due = since >= grace
    if due then
      redis.call('ZREMRANGEBYSCORE', log, '-inf', string.format('%.0f', lost))
      redis.call('ZREMRANGEBYSCORE', log, '(' .. string.format('%.0f', now), '+inf') -- by the clock of another server
    else
      wait = math.max(wait, grace - since)
    end
  end
  for pair = 1, pairs do
    if due and not lapsed then
      for i = 1, tonumber(ARGV[cursor + 1]) do
        redis.call('ZADD', log, string.format('%.0f', now - ARGV[cursor]), ARGV[3] .. ':' .. pair .. ':' .. i)
      end
    end
    cursor = cursor + 2
  end
  if due then
    redis.call('ZADD', log, '-inf', 'known')
    redis.call('PEXPIRE', log, life)
    redis.call('SET', log .. ':known', memory, 'PX', life)
    redis.call('DEL', log .. ':lost')
  end
end
return math.ceil(wait)
