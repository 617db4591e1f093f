// The map with what makes it usable: the size of the window, the pointer, the keyboard, and words for who does not see it.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { FleetMap, type Group } from './map'
import { failing, words } from './model'
import { useColours } from './parts'

export function MapView({ groups, states, only, label, name, describe, open }: {
  groups: Group[]; states: Uint8Array; only: number | null; label: string; name: (place: number) => string; describe: (place: number) => string[]; open: (place: number) => void }) {
  const frame = useRef<HTMLDivElement>(null), canvas = useRef<HTMLCanvasElement>(null), map = useRef<FleetMap | null>(null)
  const [width, setWidth] = useState(0)
  const [room, setRoom] = useState(0)
  const [at, setAt] = useState(-1) // the place of the keyboard
  const [over, setOver] = useState(-1) // and of the pointer
  const colours = useColours()

  useLayoutEffect(() => {
    map.current = new FleetMap(canvas.current!, name)
    const measure = () => {
      setWidth(Math.floor(frame.current!.clientWidth))
      setRoom(Math.max(220, Math.floor(window.innerHeight * 0.56)))
    }
    const observer = new ResizeObserver(measure)
    observer.observe(frame.current!)
    window.addEventListener('resize', measure)
    measure()
    return () => { observer.disconnect(); window.removeEventListener('resize', measure) }
  }, [])
  useLayoutEffect(() => { map.current!.readColours() }, [colours])
  useLayoutEffect(() => { if (width > 0) map.current!.arrange(groups, width, room) }, [groups, width, room])
  useLayoutEffect(() => {
    map.current!.show(only)
    if (width === 0) return
    map.current!.draw(states)
    if (performance.getEntriesByName('painted').length === 0) requestAnimationFrame(() => performance.mark('painted')) // for measurements, with Connection.measure
  })
  const current = over >= 0 ? over : at
  useEffect(() => { if (width > 0) map.current!.mark(current, states) }, [current, groups, width, colours])

  const key = (e: KeyboardEvent) => {
    const m = map.current!
    let to = at
    if (['ArrowRight', 'ArrowLeft', 'ArrowUp', 'ArrowDown', 'Home', 'End'].includes(e.key)) to = m.step(at, e.key)
    else if (e.key === 'n') { const next = m.next(at, only ?? failing, states); if (next >= 0) to = next }
    else if (e.key === 'Enter' && at >= 0) return open(at)
    else return
    e.preventDefault()
    setOver(-1)
    setAt(to)
  }
  const place = (e: MouseEvent) => {
    const r = canvas.current!.getBoundingClientRect()
    return map.current!.under(e.clientX - r.left, e.clientY - r.top)
  }
  const box = current >= 0 && width > 0 ? map.current?.box(current) : null
  // Whatever scrolls, the cell of the keyboard is seen.
  const cell = useRef<HTMLSpanElement>(null)
  useLayoutEffect(() => { if (at >= 0 && over < 0) cell.current?.scrollIntoView({ block: 'nearest', inline: 'nearest' }) }, [at, over])
  const lines = current >= 0 ? describe(current) : []
  return <div class="map" ref={frame}>
    <div class="cells" tabIndex={0} role="application" aria-roledescription="map of nodes" aria-label={label} aria-describedby="map-keys"
      onKeyDown={key} onBlur={() => setAt(-1)}>
      <canvas ref={canvas} aria-hidden="true" onMouseMove={(e) => setOver(place(e))} onMouseLeave={() => setOver(-1)}
        onClick={(e) => { const p = place(e); if (p >= 0) open(p) }} />
      {box && <span class="cell" ref={cell} style={{ left: box.x + 'px', top: box.y + 'px', width: box.width + 'px', height: box.height + 'px' }} />}
      {box && lines.length > 0 && <div class={'tip' + (box.x > width * 0.6 ? ' left' : '')}
        style={{ left: box.x > width * 0.6 ? 'auto' : box.x + box.width + 6 + 'px', right: box.x > width * 0.6 ? width - box.x + 6 + 'px' : 'auto', top: box.y + box.height + 4 + 'px' }}>
        {lines.map((l, i) => <div key={i}>{l}</div>)}
      </div>}
    </div>
    <p id="map-keys" class="keys">Arrow keys go from node to node, <kbd>n</kbd> to the next that is {words[only ?? failing]}, <kbd>Enter</kbd> opens it. The button “table” shows the same as text.</p>
    <p class="hidden" aria-live="polite">{at >= 0 && over < 0 ? lines.join('. ') : ''}</p>
  </div>
}
