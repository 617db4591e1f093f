// The picture of the fleet: a cell for each node, in groups. It draws what has changed since it drew last.
import { down, failing, isNew, notMeant, old, starting, waiting } from './model'

/** Nodes that are drawn together, by their places, in order. */
export interface Group { name: string; places: number[] }

/** Where a group is drawn. */
interface Block { group: Group; top: number; from: number }

const heading = 22
const largest = 26, smallest = 5
// A few nodes have their names beside their signs.
const named = 60, namedHeight = 26, namedSign = 18

export class FleetMap {
  private cell = largest // how high a cell is
  private wide = largest // and how wide
  private columns = 1
  private blocks: Block[] = []
  private order: number[] = [] // places, as they are drawn
  private index = new Map<number, number>() // of a place in order
  private drawn = new Uint8Array(0) // what each of order was drawn as; 255: not yet
  private colours: Record<number, string> = {}
  private ink = ''
  private faint = ''
  private surface = ''
  private width = 0
  height = 0
  /** States that are drawn dimly, as others were asked for. */
  private only: number | null = null
  private marked = -1

  constructor(private readonly canvas: HTMLCanvasElement, private readonly name: (place: number) => string) { this.readColours() }

  /** Reads the colours again, as after a change of the scheme. */
  readColours(): void {
    const style = getComputedStyle(document.documentElement)
    const of = (name: string) => style.getPropertyValue(name).trim()
    this.colours = { [notMeant]: of('--not-meant'), [isNew]: of('--new'), [old]: of('--old'), [starting]: of('--starting'),
      [waiting]: of('--waiting'), [down]: of('--down'), [failing]: of('--failing') }
    this.ink = of('--ink')
    this.faint = of('--ink-2')
    this.surface = of('--surface')
    this.drawn.fill(255)
    if (this.order.length > 0) this.headings()
  }

  /** Lays the groups out in so many pixels, as large as they fit. The picture is higher than that if it must. */
  arrange(groups: Group[], width: number, room: number): void {
    this.width = width
    const count = groups.reduce((sum, g) => sum + g.places.length, 0)
    if (count <= named) {
      this.cell = namedHeight
      this.wide = Math.min(width, Math.max(120, Math.min(250, namedSign + 26 + 7 * Math.max(...groups.flatMap((g) => g.places.map((p) => this.name(p).length))))))
    } else {
      for (this.cell = largest; this.cell > smallest; this.cell--) if (this.heightWith(groups, this.cell) <= room) break
      this.wide = this.cell
    }
    this.columns = Math.max(1, Math.floor(width / this.wide))
    this.blocks = []
    this.order = []
    let y = 0
    for (const group of groups) {
      if (group.name !== '') y += heading
      this.blocks.push({ group, top: y, from: this.order.length })
      for (const place of group.places) this.order.push(place)
      y += Math.ceil(group.places.length / this.columns) * this.cell + 8
    }
    this.height = Math.max(y, this.cell)
    this.index = new Map(this.order.map((place, i) => [place, i]))
    this.drawn = new Uint8Array(this.order.length).fill(255)
    const ratio = window.devicePixelRatio || 1
    this.canvas.width = Math.round(width * ratio)
    this.canvas.height = Math.round(this.height * ratio)
    this.canvas.style.width = width + 'px'
    this.canvas.style.height = this.height + 'px'
    this.canvas.getContext('2d')!.setTransform(ratio, 0, 0, ratio, 0, 0)
    this.headings()
  }

  private heightWith(groups: Group[], cell: number): number {
    const columns = Math.max(1, Math.floor(this.width / cell))
    return groups.reduce((sum, g) => sum + (g.name === '' ? 0 : heading) + Math.ceil(g.places.length / columns) * cell + 8, 0)
  }

  private headings(): void {
    const c = this.canvas.getContext('2d')!
    c.clearRect(0, 0, this.width, this.height)
    c.textBaseline = 'middle'
    for (const b of this.blocks) {
      if (b.group.name === '') continue
      c.font = '600 12px system-ui, sans-serif'
      c.fillStyle = this.ink
      const name = b.group.name.length > 60 ? b.group.name.slice(0, 59) + '…' : b.group.name
      c.fillText(name, 1, b.top - heading / 2 - 1)
      const wide = c.measureText(name).width
      c.font = '12px system-ui, sans-serif'
      c.fillStyle = this.faint
      c.fillText(b.group.places.length.toLocaleString('en'), wide + 10, b.top - heading / 2 - 1)
    }
  }

  /** Has only cells of a state drawn in full; null: all. */
  show(only: number | null): void {
    if (only === this.only) return
    this.only = only
    this.drawn.fill(255)
  }

  /** Draws what has changed. */
  draw(states: Uint8Array): void {
    const c = this.canvas.getContext('2d')!
    for (let i = 0; i < this.order.length; i++) {
      const state = states[this.order[i]!] ?? notMeant
      if (this.drawn[i] === state) continue
      this.drawn[i] = state
      this.one(c, i, state)
    }
    if (this.marked >= 0) this.outline(c, this.marked)
  }

  private at(i: number): { x: number; y: number } {
    let b = 0
    for (let low = 0, high = this.blocks.length - 1; low <= high;) {
      const mid = (low + high) >> 1
      if (this.blocks[mid]!.from <= i) { b = mid; low = mid + 1 } else high = mid - 1
    }
    const block = this.blocks[b]!
    const k = i - block.from
    return { x: (k % this.columns) * this.wide, y: block.top + Math.floor(k / this.columns) * this.cell }
  }

  private one(c: CanvasRenderingContext2D, i: number, state: number): void {
    const { x, y } = this.at(i)
    c.clearRect(x, y, this.wide, this.cell)
    c.globalAlpha = this.only === null || this.only === state ? 1 : 0.14
    if (this.wide === this.cell) shape(c, x, y, this.cell, state, this.colours[state]!, this.surface)
    else {
      shape(c, x + 3, y + 5, namedSign, state, this.colours[state]!, this.surface)
      c.font = '13px system-ui, sans-serif'
      c.fillStyle = this.ink
      c.textBaseline = 'middle'
      c.fillText(fitting(c, this.name(this.order[i]!), this.wide - namedSign - 18), x + namedSign + 10, y + this.cell / 2)
    }
    c.globalAlpha = 1
  }

  private outline(c: CanvasRenderingContext2D, i: number): void {
    const { x, y } = this.at(i)
    c.strokeStyle = this.ink
    c.lineWidth = 2
    c.strokeRect(x + 1, y + 1, this.wide - 2, this.cell - 2)
  }

  /** The place under a point of the picture; -1: none. */
  under(x: number, y: number): number {
    for (const b of this.blocks) {
      const row = Math.floor((y - b.top) / this.cell), column = Math.floor(x / this.wide)
      if (row < 0 || column < 0 || column >= this.columns) continue
      const k = row * this.columns + column
      if (k < b.group.places.length && y < b.top + Math.ceil(b.group.places.length / this.columns) * this.cell) return b.group.places[k]!
    }
    return -1
  }

  /** Where the cell of a place is. */
  box(place: number): { x: number; y: number; width: number; height: number } | null {
    const i = this.index.get(place)
    return i === undefined ? null : { ...this.at(i), width: this.wide, height: this.cell }
  }

  /** Marks the cell of a place; -1: none. */
  mark(place: number, states: Uint8Array): void {
    const i = this.index.get(place) ?? -1
    if (i === this.marked) return
    const before = this.marked
    this.marked = i
    const c = this.canvas.getContext('2d')!
    if (before >= 0 && before < this.order.length) this.one(c, before, states[this.order[before]!] ?? notMeant)
    if (i >= 0) this.outline(c, i)
  }

  /** The place that a key leads to from another one. */
  step(place: number, key: string): number {
    const n = this.order.length, i = this.index.get(place)
    if (n === 0) return -1
    if (i === undefined) return this.order[0]!
    const by: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, Home: -n, End: n }
    return this.order[Math.min(n - 1, Math.max(0, i + (by[key] ?? 0)))]!
  }

  /** The next place in that state, after this one and around the end; -1: there is none. */
  next(place: number, state: number, states: Uint8Array): number {
    const n = this.order.length, from = this.index.get(place) ?? -1
    for (let k = 1; k <= n; k++) {
      const p = this.order[(from + k) % n]!
      if (states[p] === state) return p
    }
    return -1
  }
}

/** As much of a text as there is room for: names often differ at their ends, so the middle is left out. */
function fitting(c: CanvasRenderingContext2D, text: string, width: number): string {
  if (text.length < 200 && c.measureText(text).width <= width) return text
  let keep = Math.floor(width / 7)
  while (keep > 4 && c.measureText(shortened(text, keep)).width > width) keep--
  return shortened(text, keep)
}

const shortened = (text: string, keep: number): string => text.slice(0, Math.ceil(keep / 2)) + '…' + text.slice(-Math.floor(keep / 2))

/** Draws the sign of a state into a square. Signs differ in shape, so colour is not needed to tell them apart. */
export function shape(c: CanvasRenderingContext2D, x: number, y: number, size: number, state: number, colour: string, surface: string): void {
  const gap = size > 14 ? 3 : size > 8 ? 2 : 1
  const s = size - gap, m = s / 2, cx = x + m, cy = y + m
  c.fillStyle = c.strokeStyle = colour
  c.lineWidth = Math.max(1, s / 7)
  const half = c.lineWidth / 2
  switch (state) {
    case isNew:
      c.fillRect(x, y, s, s)
      break
    case old: {
      const inset = s * 0.22
      c.fillRect(x + inset, y + inset, s - 2 * inset, s - 2 * inset)
      break
    }
    case starting:
      c.strokeRect(x + half, y + half, s - 2 * half, s - 2 * half)
      c.fillRect(x, y + m, s, s - m)
      break
    case waiting:
      c.beginPath()
      c.arc(cx, cy, m - half, 0, 2 * Math.PI)
      c.stroke()
      break
    case down:
      c.lineWidth = Math.max(1.5, s / 4.5)
      c.beginPath()
      c.moveTo(x + 1, y + 1); c.lineTo(x + s - 1, y + s - 1)
      c.moveTo(x + s - 1, y + 1); c.lineTo(x + 1, y + s - 1)
      c.stroke()
      break
    case failing: {
      const r = m
      c.beginPath()
      c.moveTo(cx, cy - r); c.lineTo(cx + r, cy); c.lineTo(cx, cy + r); c.lineTo(cx - r, cy)
      c.closePath()
      c.fill()
      if (s >= 9) {
        c.fillStyle = surface
        const w = Math.max(1.5, s / 8)
        c.fillRect(cx - w / 2, cy - s * 0.26, w, s * 0.3)
        c.fillRect(cx - w / 2, cy + s * 0.14, w, w)
      }
      break
    }
    default: {
      const d = Math.max(1.5, s / 5)
      c.fillRect(cx - d / 2, cy - d / 2, d, d)
    }
  }
}
