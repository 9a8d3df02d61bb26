-- Lists the records of the leases that have not run out.
-- KEYS: expiries, records.
local live = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now_ms()), '+inf')
local records = {}
for _, id in ipairs(live) do
  local record = redis.call('HGET', KEYS[2], id)
  if record then records[#records + 1] = record end
end
return records
