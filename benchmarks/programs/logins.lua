-- Logins for wrk, each by another person, each answer checked; the result is a line of JSON.
-- Environment: CREDENTIALS (Basic, in Base64), PEOPLE.

local people = tonumber(os.getenv("PEOPLE"))
local headers = {
  ["Authorization"] = "Basic " .. os.getenv("CREDENTIALS"),
  ["Content-Type"] = "application/x-www-form-urlencoded",
}
local threads = {}
wrong = 0

function setup(thread)
  table.insert(threads, thread)
end

function request()
  local number = math.random(0, people - 1)
  local body = string.format("cmd=auth&user=user%07d&pass=Secret-%d", number, number)
  return wrk.format("POST", "/mailstore", headers, body)
end

function response(status, _, body)
  if status ~= 200 or body ~= '{"succeeded":true}' then
    wrong = wrong + 1
  end
end

function done(summary, latency)
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
  end
  local errors = summary.errors
  wrong = wrong + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"answered": %d, "duration_us": %d, "wrong": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, wrong, latency:percentile(50), latency:percentile(99)))
end
