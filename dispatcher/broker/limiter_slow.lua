-- Notes what Voicery announced: at most `remaining` more requests of this account within the next `reset` microseconds.
--
-- KEYS[1] what Voicery announced for the account (hash: at, hold, remaining, reset)
-- ARGV[1] now in microseconds, or '' for Redis' own clock    ARGV[2] remaining    ARGV[3] reset in microseconds
--
-- None remaining is a hold, and a hold is never shortened by a later answer. Otherwise the newest answer counts, except
-- that within one window of theirs the smaller rest counts: the stored one has already paid for requests in flight.

local SAME_WINDOW = 2000000

local function stamp(microseconds)
  return string.format('%.0f', microseconds)
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local remaining = tonumber(ARGV[2])
local until_at = now + ARGV[3]

-- As in `limiter_take.lua`: what is no announcement of ours is deleted.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local announced = redis.call('HMGET', KEYS[1], 'at', 'hold', 'remaining', 'reset')
local hold, stored, reset = 0, 0, 0
if tonumber(announced[1] or '') and tonumber(announced[2] or '') and tonumber(announced[3] or '')
  and tonumber(announced[4] or '') then
  local set_back = math.max(0, announced[1] - now)
  hold = announced[2] - set_back
  stored = tonumber(announced[3])
  reset = announced[4] - set_back
end
if remaining <= 0 then
  hold = math.max(hold, until_at)
else
  if now < reset and math.abs(reset - until_at) <= SAME_WINDOW then
    remaining = math.min(stored, remaining)
  end
  stored = remaining
  reset = until_at
end

redis.call('HSET', KEYS[1], 'at', stamp(now), 'hold', stamp(hold), 'remaining', stamp(stored), 'reset', stamp(reset))
redis.call('PEXPIRE', KEYS[1], math.ceil((math.max(hold, reset) - now) / 1000) + 60000)
