"""What Redis does as one step, for ``RedisStore``."""

from __future__ import annotations

# KEYS: the token of all, the owner's token, the entry. ARGV: a fresh token, for how many
# milliseconds. Returns the two tokens, where need be fresh ones, and what is stored behind them.
# Tokens that cannot be written (Redis is full, or a replica) are no ticket.
GET = """
local function token(key)
    local there = redis.call('GET', key)
    if there then
        return there
    end
    local set = redis.pcall('SET', key, ARGV[1], 'PX', ARGV[2])
    return not set['err'] and ARGV[1]
end
local all, owner = token(KEYS[1]), token(KEYS[2])
if not all or not owner then
    return {false, false}
end
local ticket = all .. owner
local stored = redis.call('GET', KEYS[3])
if stored and string.sub(stored, 1, #ticket) ~= ticket then
    stored = false
end
return {ticket, stored}
"""

# KEYS: the token of all, the owner's token, the owner's index, the entry. ARGV: the ticket, the
# ticket and the entry, for how many milliseconds, for how many the tokens, the entry's name in the
# index. Returns whether it was kept.
PUT = """
local all, owner = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not all or not owner or all .. owner ~= ARGV[1] then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[5])
for key = 1, 3 do
    redis.call('PEXPIRE', KEYS[key], ARGV[4])
end
return 1
"""
