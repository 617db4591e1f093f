// What the page knows: the state that the server has sent, with the changes since. Cells are kept as bytes, and counts with
// them, so that a change costs what has changed and not what there is.
import type { About, Change, Finding, Head, History, Node, Reason, SetChange, State } from './wire'

export const notMeant = 0, isNew = 1, old = 2, starting = 3, waiting = 4, down = 5, failing = 6
export const words = ['not meant', 'new', 'old', 'starting', 'waiting', 'down', 'failing']
/** What is worth seeing first stands first. */
export const severity = [failing, down, waiting, starting, old, isNew, notMeant]
export const noWave = 63

const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_'
const value = new Uint8Array(128)
for (let i = 0; i < digits.length; i++) value[digits.charCodeAt(i)] = i

/** One DaemonSet. */
export class Daemon {
  findings: Finding[] = []
  states = new Uint8Array(0)
  reasons = new Uint8Array(0)
  waves = new Uint8Array(0)
  /** How many nodes are in each state. */
  counts = new Array<number>(words.length).fill(0)
  /** Is another number whenever a node has come into another wave. */
  waveVersion = 0

  constructor(readonly key: string, public head: Head, public history: History) {}

  /** How many nodes should have a pod, or have one. */
  get meant(): number { return this.counts.reduce((a, b) => a + b, 0) - this.counts[notMeant]! }
  get there(): number { return this.counts[isNew]! }

  grow(size: number): void {
    if (size <= this.states.length) return
    const longer = (a: Uint8Array<ArrayBuffer>, fill: number) => { const b = new Uint8Array(size).fill(fill); b.set(a); return b }
    this.states = longer(this.states, notMeant)
    this.reasons = longer(this.reasons, 0)
    this.waves = longer(this.waves, noWave)
  }

  set(place: number, text: string, at: number): void {
    const wave = value[text.charCodeAt(at + 2)]!
    if (this.waves[place] !== wave) this.waveVersion++
    this.states[place] = value[text.charCodeAt(at)]!
    this.reasons[place] = value[text.charCodeAt(at + 1)]!
    this.waves[place] = wave
  }

  count(nodes: Node[]): void {
    this.counts.fill(0)
    for (let i = 0; i < nodes.length; i++) if (nodes[i]!.name !== '' && i < this.states.length) this.counts[this.states[i]!]!++
  }
}

export class Model {
  about: About | null = null
  at = 0
  private received = 0
  cluster = ''
  stale = ''
  hidden = ''
  reasons: Reason[] = []
  nodes: Node[] = []
  /** Is another number whenever a node is new, gone, or elsewhere. */
  nodeVersion = 0
  places = new Map<string, number>()
  daemons = new Map<string, Daemon>()
  /** By namespace and name. */
  sorted: Daemon[] = []
  /** The greatest state that a node has of any DaemonSet, and how many nodes are in each. */
  worst = new Uint8Array(0)
  worstCounts = new Array<number>(words.length).fill(0)
  known = false

  /** The time by the server's clock. A recording stands still between two changes. */
  now(): number { return this.about?.replay ? this.at : this.at + performance.now() - this.received }

  private tick(at: number): void {
    this.at = at
    this.received = performance.now()
  }

  replace(s: State): void {
    this.tick(s.at)
    this.cluster = s.cluster
    this.stale = s.stale
    this.hidden = s.hidden ?? ''
    this.reasons = s.reasons
    this.nodes = s.nodes
    this.daemons.clear()
    for (const set of s.sets) {
      const d = new Daemon(set.head.namespace + '/' + set.head.name, set.head, set.history)
      d.findings = set.findings
      d.grow(set.cells.length / 3)
      for (let i = 0; 3 * i < set.cells.length; i++) d.set(i, set.cells, 3 * i)
      this.daemons.set(d.key, d)
    }
    this.known = true
    this.nodesChanged()
    this.sort()
  }

  apply(c: Change): void {
    this.tick(c.at)
    if (c.stale !== undefined) this.stale = c.stale
    const placed = Object.entries(c.nodes ?? {})
    for (const [place, node] of placed) {
      while (this.nodes.length < Number(place)) this.nodes.push({ name: '' })
      this.nodes[Number(place)] = node
    }
    for (const key of c.gone ?? []) this.daemons.delete(key)
    for (const [key, d] of Object.entries(c.sets ?? {})) this.applySet(key, d)
    if (placed.length > 0) this.nodesChanged()
    if (placed.length === 0 && (c.gone?.length ?? 0) > 0) this.findWorst()
    this.sort()
  }

  private applySet(key: string, c: SetChange): void {
    let d = this.daemons.get(key)
    if (!d) {
      if (!c.head || !c.history) return
      d = new Daemon(key, c.head, c.history)
      d.grow(this.nodes.length)
      d.count(this.nodes)
      this.daemons.set(key, d)
    }
    if (c.head) d.head = c.head
    if (c.part) d.head = { ...d.head, ...c.part }
    if (c.history) d.history = c.history
    if (c.found || c.lost) {
      const all = new Map(d.findings.map((f) => [f.id, f]))
      for (const id of c.lost ?? []) all.delete(id)
      for (const f of c.found ?? []) all.set(f.id, f)
      d.findings = [...all.values()].sort((a, b) => b.state - a.state || a.id - b.id)
    }
    for (const [place, text] of Object.entries(c.cells ?? {})) {
      const i = Number(place)
      d.grow(i + 1)
      const before = d.states[i]!
      d.set(i, text, 0)
      if (i >= this.worst.length || this.nodes[i]!.name === '') continue // it is counted with its node
      d.counts[before]!--
      d.counts[d.states[i]!]!++
      this.worsen(i)
    }
  }

  private nodesChanged(): void {
    this.nodeVersion++
    this.places = new Map()
    this.nodes.forEach((n, i) => { if (n.name !== '') this.places.set(n.name, i) })
    for (const d of this.daemons.values()) {
      d.grow(this.nodes.length)
      d.count(this.nodes)
    }
    this.findWorst()
  }

  private findWorst(): void {
    this.worst = new Uint8Array(this.nodes.length)
    this.worstCounts.fill(0)
    for (let i = 0; i < this.nodes.length; i++) {
      if (this.nodes[i]!.name === '') continue
      this.worst[i] = this.worstAt(i)
      this.worstCounts[this.worst[i]!]!++
    }
  }

  private worstAt(place: number): number {
    let worst = this.nodes[place]!.down ? down : notMeant
    for (const d of this.daemons.values()) if (d.states[place]! > worst) worst = d.states[place]!
    return worst
  }

  private worsen(place: number): void {
    const worst = this.worstAt(place)
    if (worst === this.worst[place]) return
    this.worstCounts[this.worst[place]!]!--
    this.worstCounts[worst]!++
    this.worst[place] = worst
  }

  private sort(): void {
    if (this.sorted.length === this.daemons.size && this.sorted.every((d) => this.daemons.get(d.key) === d)) return
    this.sorted = [...this.daemons.values()].sort((a, b) => (a.key < b.key ? -1 : 1))
  }

  /** What needs a look in all DaemonSets, the worst first. A node that is down is one thing, however many DaemonSets it has. */
  findings(): { of: Daemon; finding: Finding; sets: number }[] {
    const all: { of: Daemon; finding: Finding; sets: number }[] = []
    const seen = new Map<string, { sets: number }>()
    for (const of of this.sorted) {
      for (const finding of of.findings) {
        const key = finding.state === down ? finding.node + finding.text : ''
        const same = seen.get(key)
        if (key !== '' && same) { same.sets++; continue }
        const one = { of, finding, sets: 1 }
        if (key !== '') seen.set(key, one)
        all.push(one)
      }
    }
    return all.sort((a, b) => b.finding.state - a.finding.state || b.finding.nodes - a.finding.nodes)
  }
}
