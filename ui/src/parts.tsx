// Small pieces that all views are made of.
import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { Connection } from './connection'
import { shape } from './map'
import { severity, words, type Model } from './model'
import type { Finding, Log } from './wire'

export const number = (n: number): string => n.toLocaleString('en')
export const counted = (n: number, what: string): string => `${number(n)} ${what}${n === 1 ? '' : 's'}`

/** How long ago, as people say it. */
export function ago(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000))
  if (s < 60) return `${s}s`
  if (s < 3600) return `${Math.floor(s / 60)}m${s < 600 && s % 60 ? ` ${s % 60}s` : ''}`
  if (s < 86400) return `${Math.floor(s / 3600)}h${Math.floor((s % 3600) / 60) ? ` ${Math.floor((s % 3600) / 60)}m` : ''}`
  return `${Math.floor(s / 86400)}d`
}

export const clock = (at: number): string => new Date(at).toLocaleTimeString('en-GB')
export const moment = (at: number): string => new Date(at).toLocaleString('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit' })

export function Since({ model, at }: { model: Model; at: number | undefined }) {
  if (!at) return null
  return <time dateTime={new Date(at).toISOString()} title={moment(at)}>{ago(model.now() - at)}</time>
}

/** The sign of a state, as on the map. */
export function Sign({ state, size = 13 }: { state: number; size?: number }) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const colours = useColours()
  useLayoutEffect(() => {
    const c = canvas.current!, ratio = window.devicePixelRatio || 1
    c.width = c.height = size * ratio
    const style = getComputedStyle(document.documentElement)
    const colour = style.getPropertyValue('--' + words[state]!.replace(' ', '-')).trim()
    const context = c.getContext('2d')!
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    context.clearRect(0, 0, size, size)
    shape(context, 0, 0, size + 1, state, colour, style.getPropertyValue('--surface').trim())
  }, [state, size, colours])
  return <canvas ref={canvas} class={'sign s' + size} aria-hidden="true" />
}

const dark = window.matchMedia('(prefers-color-scheme: dark)'), print = window.matchMedia('print')
const coloursNow = (): string => print.matches || document.documentElement.classList.contains('paper') ? 'paper' : dark.matches ? 'dark' : 'light'

/** Another value when the colours are others: those of the user's scheme, or of paper, which is light. */
export function useColours(): string {
  const [colours, set] = useState(coloursNow)
  useEffect(() => {
    const changed = () => set(coloursNow())
    const told: [EventTarget, string][] = [[dark, 'change'], [print, 'change'], [window, 'beforeprint'], [window, 'afterprint']]
    for (const [of, event] of told) of.addEventListener(event, changed)
    return () => { for (const [of, event] of told) of.removeEventListener(event, changed) }
  }, [])
  return colours
}

/** Has the page in the colours of paper before it is printed: a canvas is printed as it was drawn. */
export function preparePaper(): void {
  window.addEventListener('beforeprint', () => document.documentElement.classList.add('paper'))
  window.addEventListener('afterprint', () => document.documentElement.classList.remove('paper'))
}

/** A sign and its word. */
export function State({ state }: { state: number }) {
  return <span class={'state ' + words[state]!.replace(' ', '-')}><Sign state={state} /> {words[state]}</span>
}

/** How many nodes are in each state, as one bar. */
export function Bar({ counts }: { counts: number[] }) {
  const parts = [1, 2, 3, 4, 5, 6].filter((s) => counts[s]! > 0)
  return <span class="bar" aria-hidden="true">{parts.map((s) => <span key={s} class={'fill ' + words[s]} style={{ flexGrow: counts[s] }} />)}</span>
}

/** What the signs mean, how many there are, and a button to see one kind alone. */
export function Legend({ counts, only, choose }: { counts: number[]; only: number | null; choose: (state: number | null) => void }) {
  return <ul class="legend" aria-label="Nodes by state. A button shows one state alone.">
    {severity.filter((s) => counts[s]! > 0).map((s) =>
      <li key={s}><button type="button" aria-pressed={only === s} onClick={() => choose(only === s ? null : s)}>
        <Sign state={s} /> {words[s]} <b>{number(counts[s]!)}</b>
      </button></li>)}
  </ul>
}

export function Empty({ children }: { children: ComponentChildren }) { return <p class="empty">{children}</p> }

export const setLink = (key: string): string => '#/set/' + key.split('/').map(encodeURIComponent).join('/')
export const nodeLink = (name: string): string => '#/node/' + encodeURIComponent(name)

/** The end of the log of the container that keeps the node's pod from being available. */
export function LogTail({ connection, set, node }: { connection: Connection; set: string; node: string }) {
  const [log, setLog] = useState<Log | null>(null)
  const [error, setError] = useState('')
  const [again, setAgain] = useState(0)
  useEffect(() => {
    let gone = false
    setError('')
    connection.ask<Log>('/v1/log', { set, node }).then((l) => { if (!gone) setLog(l) }, (err: Error) => { if (!gone) setError(err.message) })
    return () => { gone = true }
  }, [set, node, again])
  if (error) return <p class="log-error" role="status">No log: {error}</p>
  if (!log) return <p class="log-error" role="status">Reading the log …</p>
  return <figure class="log">
    <figcaption>{log.pod}, container {log.container}{log.previous ? ', the run before this one' : ''}: the last {counted(log.lines.length, 'line')}
      <button type="button" class="quiet" onClick={() => setAgain(again + 1)}>read again</button></figcaption>
    <pre tabIndex={0} aria-label={'Log of container ' + log.container}>{log.lines.length ? log.lines.join('\n') : '(nothing)'}</pre>
  </figure>
}

/** What needs a look, with the log one press away. */
export function Findings({ model, connection, all, named, more }:
  { model: Model; connection: Connection; all: { key: string; finding: Finding; sets: number }[]; named: boolean; more: number }) {
  const [open, setOpen] = useState<string | null>(null)
  if (all.length === 0) return <Empty>Nothing needs a look.</Empty>
  return <ul class="findings">
    {all.map(({ key, finding: f, sets }) => {
      const id = key + ' ' + f.id, isOpen = open === id
      return <li key={id}>
        <div class="finding">
          <Sign state={f.state} size={15} /><span class="hidden">{words[f.state]}</span>
          <span class="who"><a href={nodeLink(f.node)}>{f.node}</a>{f.nodes > 1 && <span class="more" title={`${counted(f.nodes, 'node')} for the same reason`}> +{number(f.nodes - 1)}</span>}
            {named && (sets > 1 ? <span class="of">{counted(sets, 'DaemonSet')}</span> : <a class="of" href={setLink(key)}>{key}</a>)}</span>
          <span class="what">{f.text}</span>
          <span class="since"><Since model={model} at={f.since} /></span>
          {f.log ? <button type="button" class="quiet" aria-expanded={isOpen} onClick={() => setOpen(isOpen ? null : id)}>{isOpen ? 'hide log' : 'log'}</button> : <span />}
        </div>
        {isOpen && <LogTail connection={connection} set={key} node={f.node} />}
      </li>
    })}
    {more > 0 && <li class="more-of">and {counted(more, 'node')} more: see the table</li>}
  </ul>
}
