-- The first part of every script.
-- A user's hash has a field for each device class: "session gate_epoch conn_id installation counter until".
-- until is 0 for a live session, and for a tombstone the millisecond at which it is forgotten.
-- Session numbers and milliseconds stay below 2^53, where Lua's numbers are exact. Everything else with 64 bits stays a string:
-- counters have 20 digits, so that they compare as strings.
local function parse(raw)
  if not raw then return nil end
  local s, e, c, i, n, u = string.match(raw, '^(%d+) (%d+) (%d+) (%x+) (%d+) (%d+)$')
  if not s then return nil end
  return {session = tonumber(s), epoch = e, conn = c, installation = i, counter = n, tomb = tonumber(u)}
end

local function format(session, epoch, conn, installation, counter, tomb)
  return string.format('%.0f %s %s %s %s %.0f', session, epoch, conn, installation, counter, tomb)
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

