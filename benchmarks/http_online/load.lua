-- Asks for random entities; what is asked is in the environment. Prints one line of JSON.
local batch = tonumber(os.getenv("BATCH"))
local entities = tonumber(os.getenv("ENTITIES"))
local shape = os.getenv("SHAPE")
local path = os.getenv("REQUEST_PATH")
local key = os.getenv("API_KEY")
local bodies = {}
local place = 0

local function body(ids)
  if shape == "feast" then
    return '{"feature_service":"bench","entities":{"user_id":[' .. table.concat(ids, ",") .. "]}}"
  end
  local rows = {}
  for index, id in ipairs(ids) do rows[index] = '{"user_id":' .. id .. "}" end
  return '{"features":"bench","rows":[' .. table.concat(rows, ",") .. "]}"
end

function init()
  math.randomseed(7)
  wrk.headers["Content-Type"] = "application/json"
  if key then wrk.headers["X-API-Key"] = key end
  for index = 1, 500 do
    local ids = {}
    for one = 1, batch do ids[one] = math.random(0, entities - 1) end
    bodies[index] = wrk.format("POST", path, nil, body(ids))
  end
end

function request()
  place = place % #bodies + 1
  return bodies[place]
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.read + summary.errors.connect + summary.errors.timeout
  io.write(string.format(
    '{"requests": %d, "taken_us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed))
end
