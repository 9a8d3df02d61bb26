-- Replaces a session by a tombstone, if it still is the one with that number. Where nothing stands (the table was emptied) the number alone is remembered.
-- KEYS: user. ARGV: class, session, tombstone ttl ms, hash ttl ms.
local old = parse(redis.call('HGET', KEYS[1], ARGV[1]))
local session = tonumber(ARGV[2])
local installation, counter, former = string.rep('0', 32), string.rep('0', 20), '-'
if old then
  if old.tomb == 0 and old.session ~= session then return 0 end
  if old.tomb > 0 and old.session >= session then return 0 end
  installation, counter, former = old.installation, old.counter, old.former
end
redis.call('HSET', KEYS[1], ARGV[1], format(session, '0', '0', installation, counter, now_ms() + tonumber(ARGV[3]), former))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
