// The fleet: the worst that each node has of any DaemonSet.
import type { Connection } from './connection'
import { Picture } from './picture'
import { counted, Empty, Findings } from './parts'
import { down, failing, isNew, notMeant, type Model } from './model'

const maxFindings = 12

export function FleetView({ model, connection }: { model: Model; connection: Connection }) {
  const all = model.findings().map(({ of, finding, sets }) => ({ key: of.key, finding, sets }))
  const counts = model.worstCounts
  const bad = counts[failing]! + counts[down]!
  const rest = all.slice(maxFindings).reduce((n, f) => n + f.finding.nodes, 0) + model.sorted.reduce((n, d) => n + (d.head.more ?? 0), 0)
  const going = model.sorted.filter((d) => d.head.release)
  return <>
    <header class="head">
      <h1 tabIndex={-1}>All DaemonSets</h1>
      <p class="lead">{bad > 0 ? <><b class="bad">{counted(bad, 'node')}</b> failing or down.</> : 'No node is failing.'}{' '}
        {counted(model.sorted.length, 'DaemonSet')} on {counted(model.places.size, 'node')}
        {going.length > 0 && <>, {counted(going.length, 'release')} under way</>}.
        {counts[isNew]! + counts[notMeant]! === model.places.size && model.places.size > 0 && ' Everything is up to date.'}</p>
    </header>
    {model.sorted.length === 0 && <Empty>There is no DaemonSet here.</Empty>}
    <Picture model={model} of={null} title="The worst of all DaemonSets" />
    <section aria-labelledby="look"><h2 id="look">To look at</h2>
      <Findings model={model} connection={connection} all={all.slice(0, maxFindings)} named={true} more={rest} /></section>
  </>
}
