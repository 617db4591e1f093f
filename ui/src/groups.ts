// Which nodes are drawn together, and in what order.
import type { Group } from './map'
import { noWave, type Daemon, type Model } from './model'

export type By = 'zone' | 'pool' | 'wave'

const collator = new Intl.Collator('en', { numeric: true })

/** Compares names as people count: node-2 comes before node-10. */
export const naturally = (a: string, b: string): number => collator.compare(a, b)

/** What the nodes have: zones, pools, waves. */
export function groupings(model: Model, of: Daemon | null): By[] {
  const all: By[] = []
  if (differ(model, 'zone')) all.push('zone')
  if (differ(model, 'pool')) all.push('pool')
  if (of?.head.waves?.length) all.push('wave')
  return all
}

function differ(model: Model, what: 'zone' | 'pool'): boolean {
  const first = model.nodes.find((n) => n.name !== '')?.[what]
  return model.nodes.some((n) => n.name !== '' && n[what] !== first)
}

/** Groups nodes; within a group a release reaches the first ones first, and then names decide. */
export function groupsOf(model: Model, by: By | null, of: Daemon | null): Group[] {
  const places = [...model.places.values()].sort((a, b) => naturally(model.nodes[a]!.name, model.nodes[b]!.name))
  const wave = (place: number) => of?.waves[place] ?? noWave
  if (of?.head.waves?.length) places.sort((a, b) => wave(a) - wave(b)) // it is stable
  const groups = new Map<string, number[]>()
  for (const place of places) {
    const name = groupName(model, by, of, place)
    const group = groups.get(name)
    if (group) group.push(place)
    else groups.set(name, [place])
  }
  const all = [...groups].map(([name, of]) => ({ name, places: of }))
  if (by !== 'wave') all.sort((a, b) => Number(a.name === '') - Number(b.name === '') || naturally(a.name, b.name))
  if (all.length > 1) for (const g of all) if (g.name === '') g.name = by === 'wave' ? 'in no wave' : `no ${by}`
  return all
}

function groupName(model: Model, by: By | null, of: Daemon | null, place: number): string {
  switch (by) {
    case 'zone': return model.nodes[place]!.zone ?? ''
    case 'pool': return model.nodes[place]!.pool ?? ''
    case 'wave': return of?.head.waves?.[of.waves[place] ?? noWave]?.name ?? ''
  }
  return ''
}
