-- The first part of every script.
-- A user's hash has a field for each device class: "session gate_epoch conn_id installation counter until former".
-- until is 0 for a live session, and for a tombstone the millisecond at which it is forgotten.
-- former is "-", or up to 3 "installation:counter" with commas between, latest first: the installations that held the class before.
-- By them a login that was overtaken on its way is known, whoever has logged in since.
-- Session numbers and milliseconds stay below 2^53, where Lua's numbers are exact. Everything else with 64 bits stays a string:
-- counters have 20 digits, so that they compare as strings.
local function parse(raw)
  if not raw then return nil end
  local s, e, c, i, n, u, f = string.match(raw, '^(%d+) (%d+) (%d+) (%x+) (%d+) (%d+) (%S+)$')
  if not s then return nil end
  return {session = tonumber(s), epoch = e, conn = c, installation = i, counter = n, tomb = tonumber(u), former = f}
end

local function format(session, epoch, conn, installation, counter, tomb, former)
  return string.format('%.0f %s %s %s %s %.0f %s', session, epoch, conn, installation, counter, tomb, former)
end

-- The counter under which installation held the class before old; nil: not known.
local function former_counter(old, installation)
  return string.match(old.former, installation .. ':(%d+)')
end

-- What former is when installation follows on old, which may be nil.
local function former_after(old, installation)
  if not old then return '-' end
  if old.installation == installation then return old.former end
  local list = {}
  if string.find(old.installation, '[^0]') then list[1] = old.installation .. ':' .. old.counter end
  for i, n in string.gmatch(old.former, '(%x+):(%d+)') do
    if i ~= installation and i ~= old.installation and #list < 3 then list[#list + 1] = i .. ':' .. n end
  end
  if #list == 0 then return '-' end
  return table.concat(list, ',')
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

