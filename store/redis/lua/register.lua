-- Puts back a session that a gate holds, unless a newer login or its own end stands there.
-- Within one installation the login counter says what is newer, which no clock can get wrong; otherwise the session number does.
-- KEYS: user. ARGV: class, session, gate epoch, conn, installation, counter, hash ttl ms.
-- Answers {outcome 0 kept 1 made 2 refused, the field that refused it; empty when the session itself has ended}.
local raw = redis.call('HGET', KEYS[1], ARGV[1])
local old = parse(raw)
if old and old.tomb > 0 and old.tomb <= now_ms() then old = nil end
if old then
  local session = tonumber(ARGV[2])
  if old.tomb == 0 and old.session == session and old.epoch == ARGV[3] and old.conn == ARGV[4] then
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
    return {0, ''}
  end
  local newer = old.session >= session
  if old.installation == ARGV[5] and old.counter ~= ARGV[6] then newer = old.counter > ARGV[6] end
  if newer then
    if old.tomb > 0 and old.session == session then return {2, ''} end
    return {2, raw}
  end
end
redis.call('HSET', KEYS[1], ARGV[1], format(tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6], 0, former_after(old, ARGV[5])))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {1, ''}
