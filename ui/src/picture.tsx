// The map, its legend, how it is grouped, and the table: of one DaemonSet, or of the worst of all.
import { useMemo, useState } from 'preact/hooks'
import { groupings, groupsOf, type By } from './groups'
import { MapView } from './mapview'
import { NodeTable } from './nodetable'
import { Empty, Legend, nodeLink, number } from './parts'
import { failing, severity, words, type Daemon, type Model } from './model'

export function Picture({ model, of, title }: { model: Model; of: Daemon | null; title: string }) {
  const [by, setBy] = useState<By | null>(() => sessionStorage.getItem('by') as By | null)
  const [only, setOnly] = useState<number | null>(null)
  const [table, setTable] = useState(false)
  const kinds = groupings(model, of)
  const grouping = by && kinds.includes(by) ? by : kinds[0] ?? null
  const groups = useMemo(() => groupsOf(model, grouping, of), [model.nodeVersion, grouping, of, of?.waveVersion])
  const states = of ? of.states : model.worst, counts = of ? of.counts : model.worstCounts
  const reason = (place: number): string => of ? told(model, of, place) : worstOf(model, place)
  const choose = (kind: By) => { setBy(kind); sessionStorage.setItem('by', kind) }
  if (model.places.size === 0) return <Empty>The cluster has no nodes.</Empty>
  const summary = severity.filter((s) => counts[s]! > 0).map((s) => `${number(counts[s]!)} ${words[s]}`).join(', ')
  return <section class="picture" aria-label={title}>
    <div class="tools">
      <Legend counts={counts} only={only} choose={setOnly} />
      {kinds.length > 1 && <div class="segments" role="group" aria-label="Group nodes by">
        {kinds.map((k) => <button key={k} type="button" aria-pressed={grouping === k} onClick={() => choose(k)}>{k}</button>)}
      </div>}
      <button type="button" class="quiet" aria-pressed={table} onClick={() => setTable(!table)}>table</button>
    </div>
    <MapView groups={groups} states={states} only={only} label={`${title}: ${number(model.places.size)} nodes: ${summary}`}
      name={(place) => model.nodes[place]?.name ?? ''}
      describe={(place) => describe(model, of, place, reason(place))} open={(place) => { location.hash = nodeLink(model.nodes[place]!.name) }} />
    {table && <NodeTable model={model} groups={groups} states={states} only={only} reason={reason} caption={title} />}
  </section>
}

function describe(model: Model, of: Daemon | null, place: number, reason: string): string[] {
  const n = model.nodes[place]
  if (!n || n.name === '') return []
  const state = (of ? of.states : model.worst)[place] ?? 0
  const where = [n.zone, n.pool].filter(Boolean).join(', ')
  return [n.name + (where ? ` (${where})` : ''), words[state] + ': ' + reason]
}

/** Why a node is as it is, for one DaemonSet. */
function told(model: Model, of: Daemon, place: number): string {
  const r = model.reasons[of.reasons[place] ?? 0]
  const down = model.nodes[place]?.down, found = of.findings.find((f) => f.node === model.nodes[place]?.name)
  if (found) return found.text
  return down ? `the node is not Ready: ${down}` : r?.name ? `${r.name}: ${r.sentence}` : 'no pod is meant for it'
}

/** The same for the DaemonSets that are worst on the node. */
function worstOf(model: Model, place: number): string {
  const down = model.nodes[place]?.down
  if (down) return `the node is not Ready: ${down}`
  const worst = model.worst[place]!
  const which = model.sorted.filter((d) => d.states[place] === worst)
  if (which.length === model.sorted.length && worst < failing) return 'all DaemonSets'
  const names = which.slice(0, 3).map((d) => `${d.key} (${model.reasons[d.reasons[place]!]?.name || 'not meant'})`).join(', ')
  return names + (which.length > 3 ? ` and ${which.length - 3} more` : '')
}
