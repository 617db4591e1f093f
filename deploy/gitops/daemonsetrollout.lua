-- The health of an everynode.io/DaemonSetRollout for Argo CD, from its conditions. The script uses no Lua libraries, because
-- Argo CD loads them only for its own scripts.
local function is(status, message)
  return {status = status, message = message}
end

local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function holds(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return is("Progressing", "the engine has not heeded the last change of the spec yet")
end
if holds("Stalled") then
  return is("Degraded", conditions.Stalled.message)
end
if holds("Reconciling") then
  -- It waits for a person, as intended.
  if status.reason == "NotApproved" or status.reason == "PauseRequested" then
    return is("Suspended", conditions.Reconciling.message)
  end
  return is("Progressing", conditions.Reconciling.message)
end
if holds("Ready") then
  return is("Healthy", conditions.Ready.message)
end
return is("Progressing", "the engine has not said yet how its releases stand")
