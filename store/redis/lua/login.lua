-- Fences and replaces the session of a device class.
-- KEYS: user. ARGV: class, session (the clock id), gate epoch, conn, installation, counter, hash ttl ms.
-- Answers {outcome 0 made 1 repeated 2 stale, session, the field that was replaced, repeated or won}.
local raw = redis.call('HGET', KEYS[1], ARGV[1])
local old = parse(raw)
local session = tonumber(ARGV[2])
local previous = ''
if old then
  local dead = old.tomb > 0
  if not dead and old.epoch == ARGV[3] and old.conn == ARGV[4] then
    return {1, string.format('%.0f', old.session), raw}
  end
  local forgotten = dead and old.tomb <= now_ms()
  local counter = former_counter(old, ARGV[5])
  if old.installation == ARGV[5] then counter = old.counter end
  if not forgotten and counter and counter >= ARGV[6] then
    return {2, '0', raw}
  end
  if old.session >= session then session = old.session + 1 end
  if not dead then previous = raw end
end
redis.call('HSET', KEYS[1], ARGV[1], format(session, ARGV[3], ARGV[4], ARGV[5], ARGV[6], 0, former_after(old, ARGV[5])))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {0, string.format('%.0f', session), previous}
