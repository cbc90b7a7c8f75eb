-- One report of a gateway to the meters, and what it asks of them; all of it is granted, or nothing.
--
-- KEYS: the set of gateways by the moment their holdings lapse (ms), then one hash per meter: `full` (when a rate's bucket
-- will be full, µs), `base` (spent by gateways that are gone), `h:ID` and `u:ID` (held and spent by a gateway), `by` and
-- `at` (who was refused last, and when, µs).
-- ARGV: the gateway's id, the time (µs, 0: the server's), how long its holdings last (ms), then for each meter: kind
-- (1 rate, 2 slots, 3 budget), limit, held, spent, refund, needed, unit, most to keep, when it is forgotten (ms from now).
-- Returns the number of gateways, then for each meter: granted, kept, µs until a rate is full, µs to wait (-1: unknown),
-- 1 where a budget is spent, 1 where another gateway was refused a moment ago for what is held. A gateway's own numbers are totals, so that a report that comes twice counts once.
local MINUTE, RECENT = 60000000, 1000000
local me, now, lasts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now / 1000)
redis.call('ZADD', KEYS[1], now / 1000 + lasts, me)
local gateways = redis.call('ZCARD', KEYS[1])

local function whole(number)
  return string.format('%.0f', number)
end

local function read(key, kind, limit)
  local row = { full = now, base = 0, others = 0, spent = 0 }
  local fields = redis.call('HGETALL', key)
  local held, used = {}, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], tonumber(fields[i + 1])
    local mark, id = string.sub(name, 1, 2), string.sub(name, 3)
    if name == 'full' then row.full = math.max(now, math.min(value, now + MINUTE))
    elseif name == 'base' then row.base = value
    elseif name == 'by' then row.by = fields[i + 1]
    elseif name == 'at' then row.at = value
    elseif mark == 'h:' then held[id] = value
    elseif mark == 'u:' then used[id] = value end
  end
  for id, value in pairs(held) do
    if id ~= me then
      if redis.call('ZSCORE', KEYS[1], id) then row.others = row.others + math.max(0, value)
      else
        if kind == 1 then row.full = row.full - value * MINUTE / limit end
        redis.call('HDEL', key, 'h:' .. id)
      end
    end
  end
  for id, value in pairs(used) do
    if id ~= me then
      if not redis.call('ZSCORE', KEYS[1], id) then
        redis.call('HDEL', key, 'u:' .. id)
        row.base = row.base + value
      else row.spent = row.spent + value end
    end
  end
  row.spent = row.spent + row.base
  return row
end

local rows, enough = {}, true
for i = 2, #KEYS do
  local at = 4 + (i - 2) * 9
  local kind, limit, held, used = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local row = read(KEYS[i], kind, limit)
  row.kind, row.limit, row.held = kind, limit, held
  row.need, row.unit, row.most = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  if kind == 1 then
    row.full = row.full - tonumber(ARGV[at + 4]) * MINUTE / limit
    row.available = math.floor(math.min(limit, (now + MINUTE - math.max(now, row.full)) * limit / MINUTE + 0.000001))
  else
    row.spent = row.spent + used
    row.available = limit - row.others - math.max(0, held) - (kind == 3 and row.spent or 0)
  end
  if row.available < row.need then enough = false end
  redis.call('HSET', KEYS[i], 'u:' .. me, whole(used), 'base', whole(row.base))
  redis.call('PEXPIRE', KEYS[i], ARGV[at + 8])
  rows[i] = row
end

local answer = { gateways }
for i = 2, #KEYS do
  local row = rows[i]
  local granted, keep, wait, spent = 0, 0, 0, 0
  local wanted = (row.by and row.by ~= me and now - row.at < RECENT) and 1 or 0
  if enough then
    keep = math.min(row.most, math.floor((row.available - row.need) / (4 * gateways)))
    if keep < row.unit then keep = 0 end
    granted = row.need + keep
    if row.kind == 1 and granted > 0 then row.full = math.max(now, row.full) + granted * MINUTE / row.limit end
  elseif row.available < row.need then
    wait = -1
    if row.others > 0 then redis.call('HSET', KEYS[i], 'by', me, 'at', whole(now)) end
    if row.kind == 1 and row.unit <= row.limit then
      wait = math.ceil(row.full + row.need * MINUTE / row.limit - now - MINUTE)
    elseif row.kind == 3 and row.spent + row.unit > row.limit then spent = 1 end
  end
  redis.call('HSET', KEYS[i], 'h:' .. me, whole(row.held + granted))
  if row.kind == 1 then redis.call('HSET', KEYS[i], 'full', string.format('%.3f', row.full)) end
  for _, value in ipairs({ granted, keep, math.ceil(row.full - now), wait, spent, wanted }) do
    table.insert(answer, whole(value))
  end
end
return answer
