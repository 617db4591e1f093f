-- The health of an apps/DaemonSet for Argo CD. If it follows a RolloutPolicy, its health is in the conditions that an engine
-- in charge writes. Beside the built-in controller nobody writes them: then a DaemonSet that names a policy is Progressing
-- until every node has the new version, although it is OnDelete. For all others the result is that of Argo CD's own script.
-- The script uses no Lua libraries, because Argo CD loads them only for its own scripts.
local function is(status, message)
  return {status = status, message = message}
end

local spec = obj.spec or {}
local status = obj.status or {}
if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return is("Progressing", "the last change of the DaemonSet is not observed yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local progressing, available = conditions.Progressing, conditions.Available
if progressing ~= nil and available ~= nil then
  -- The state is kept shortly after the change is observed. Argo CD ends a sync at the first Degraded.
  if progressing.reason == "StateNotKept" then
    return is("Progressing", progressing.message)
  end
  if progressing.status == "False" then
    return is("Degraded", progressing.message)
  end
  if progressing.status == "Unknown" then -- it waits for a person, as intended
    return is("Suspended", progressing.message)
  end
  if progressing.reason ~= "Released" then
    return is("Progressing", progressing.message)
  end
  if available.status ~= "True" then
    return is("Progressing", available.message)
  end
  return is("Healthy", progressing.message)
end

local desired = status.desiredNumberScheduled or 0
local updated = status.updatedNumberScheduled or 0
local there = status.numberAvailable or 0
local named = obj.metadata.annotations ~= nil and obj.metadata.annotations["everynode.io/rollout-policy"] ~= nil
if spec.updateStrategy ~= nil and spec.updateStrategy.type == "OnDelete" and not named then
  return is("Healthy", updated .. " of " .. desired .. " pods are of the last template; the others wait to be deleted")
end
if updated < desired then
  return is("Progressing", updated .. " of " .. desired .. " pods are of the last template")
end
if there < desired then
  return is("Progressing", there .. " of " .. desired .. " pods are available")
end
return is("Healthy", desired .. " pods are available")
