-- Writes a lease, removes those that ran out, and, when there is a third key, keeps the epoch of the presence table.
-- The table begins a new epoch when it has none (it was emptied), and when the replication id differs from the one stored beside it
-- (another server took over, or this one restarted: the last second of changes may be lost).
-- KEYS: expiries (sorted set), records (hash)[, epoch (hash)]. ARGV: id, record, ttl ms, keep ms[, new epoch, 1 to look at the replication id].
-- Answers the epoch, or ''.
local now = now_ms()
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
for _, id in ipairs(gone) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if not KEYS[3] then return '' end
local stored = redis.call('HMGET', KEYS[3], 'epoch', 'replid')
local epoch, replid = stored[1], stored[2]
if not epoch or ARGV[6] == '1' then
  local current = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
  if not epoch or (current ~= '' and current ~= replid) then
    epoch = ARGV[5]
    redis.call('HSET', KEYS[3], 'epoch', epoch, 'replid', current)
  end
end
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return epoch
