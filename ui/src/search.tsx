// A field that finds nodes, DaemonSets and reasons by a part of their names.
import { useEffect, useRef, useState } from 'preact/hooks'
import { words, type Model } from './model'
import { nodeLink, number, setLink, Sign } from './parts'

interface Hit { label: string; note: string; link: string; state: number }

const most = 12

export function Search({ model }: { model: Model }) {
  const [text, setText] = useState('')
  const [chosen, setChosen] = useState(0)
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const slash = (e: KeyboardEvent) => {
      const at = e.target as HTMLElement
      if (e.key !== '/' || e.ctrlKey || e.metaKey || ['INPUT', 'TEXTAREA', 'SELECT'].includes(at.tagName)) return
      e.preventDefault()
      field.current!.focus()
    }
    document.addEventListener('keydown', slash)
    return () => document.removeEventListener('keydown', slash)
  }, [])
  const asked = text.trim().replace(/^\/+/, '').toLowerCase() // the key that leads here may be in it
  const hits = asked === '' ? [] : find(model, asked)
  const at = Math.min(chosen, hits.length - 1)
  const go = (hit: Hit | undefined) => {
    if (!hit) return
    location.hash = hit.link
    setText('')
    field.current!.blur()
  }
  const key = (e: KeyboardEvent) => {
    if (e.key === 'ArrowDown') setChosen(Math.min(at + 1, hits.length - 1))
    else if (e.key === 'ArrowUp') setChosen(Math.max(at - 1, 0))
    else if (e.key === 'Enter') return go(hits[at])
    else if (e.key === 'Escape') { setText(''); field.current!.blur() } else return
    e.preventDefault()
  }
  return <div class="search" role="search">
    <input ref={field} type="search" value={text} placeholder="Search   /" aria-label="Search nodes, DaemonSets, reasons" role="combobox" list={undefined}
      aria-expanded={hits.length > 0} aria-controls="hits" aria-autocomplete="list" aria-activedescendant={hits.length > 0 ? 'hit-' + at : undefined}
      autocomplete="off" spellcheck={false} onInput={(e) => { setText(e.currentTarget.value); setChosen(0) }} onKeyDown={key} />
    <ul id="hits" role="listbox" aria-label="Found" class={hits.length > 0 ? 'hits' : 'hidden'}>
      {hits.map((h, i) => <li key={h.link} id={'hit-' + i} role="option" aria-selected={i === at} onMouseDown={(e) => { e.preventDefault(); go(h) }}>
        <Sign state={h.state} /> <span class="label">{h.label}</span> <span class="faint">{h.note}</span></li>)}
    </ul>
    {asked !== '' && hits.length === 0 && <p class="hits none" role="status">Nothing has “{asked}” in its name.</p>}
  </div>
}

function find(model: Model, text: string): Hit[] {
  const hits: Hit[] = []
  for (const d of model.sorted) {
    if (hits.length >= most) break
    const state = d.findings[0]?.state ?? 1
    if (d.key.toLowerCase().includes(text)) hits.push({ label: d.key, note: d.head.phase, link: setLink(d.key), state })
  }
  const nodes = [...model.places].filter(([name]) => name.toLowerCase().includes(text)).sort((a, b) => model.worst[b[1]]! - model.worst[a[1]]!)
  for (const [name, place] of nodes) {
    if (hits.length >= most) break
    hits.push({ label: name, note: words[model.worst[place]!]!, link: nodeLink(name), state: model.worst[place]! })
  }
  for (const { of, finding: f } of model.findings()) {
    if (hits.length >= most) break
    const link = nodeLink(f.node)
    if (f.text.toLowerCase().includes(text) && !hits.some((h) => h.link === link)) hits.push({ label: f.node, note: `${of.head.name}: ${f.text}${f.nodes > 1 ? `, +${number(f.nodes - 1)}` : ''}`, link, state: f.state })
  }
  return hits
}
