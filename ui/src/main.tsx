// The page: it keeps what the server says, and shows one of three views of it.
import { render } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Connection, takeToken, type Standing } from './connection'
import { DaemonView } from './daemon'
import { FleetView } from './fleet'
import { down, failing, Model, type Daemon } from './model'
import { NodeView } from './nodeview'
import { Bar, clock, Empty, number, preparePaper, setLink } from './parts'
import { Search } from './search'

type Route = { view: 'fleet' } | { view: 'set'; key: string } | { view: 'node'; name: string }

function routeOf(hash: string): Route {
  const parts = hash.replace(/^#\/?/, '').split('/').map((p) => { try { return decodeURIComponent(p) } catch { return p } })
  if (parts[0] === 'set' && parts.length === 3) return { view: 'set', key: parts[1] + '/' + parts[2] }
  if (parts[0] === 'node' && parts[1]) return { view: 'node', name: parts[1] }
  return { view: 'fleet' }
}

function useRoute(): Route {
  const [route, set] = useState(() => routeOf(location.hash))
  useEffect(() => {
    const changed = () => { set(routeOf(location.hash)); document.querySelector('main')?.scrollTo({ top: 0 }) }
    window.addEventListener('hashchange', changed)
    return () => window.removeEventListener('hashchange', changed)
  }, [])
  return route
}

/** The model, drawn at most once for each frame of the screen. */
function useFleet(model: Model, token: string): { connection: Connection; standing: Standing } {
  const [, draw] = useState(0)
  const [standing, setStanding] = useState<Standing>({ kind: 'connecting', text: '', since: Date.now() })
  const [connection] = useState(() => {
    let waits = false
    const changed = () => {
      if (waits) return
      waits = true
      requestAnimationFrame(() => { waits = false; draw((n) => n + 1) })
    }
    return new Connection(token, {
      about: (a) => { model.about = a; changed() },
      state: (s) => { model.replace(s); changed() },
      change: (c) => { model.apply(c); changed() },
      standing: setStanding,
    })
  })
  useEffect(() => {
    void connection.follow()
    const timer = setInterval(() => draw((n) => n + 1), 5000) // ages grow
    return () => clearInterval(timer)
  }, [])
  return { connection, standing }
}

function Live({ model, standing: s }: { model: Model; standing: Standing }) {
  let kind = 'good', text = 'live'
  if (s.kind === 'connecting') [kind, text] = ['going', 'connecting …']
  else if (s.kind === 'refused') [kind, text] = ['bad', 'link expired']
  else if (s.kind !== 'live') [kind, text] = ['bad', `STALE since ${clock(s.since)}, trying again`]
  else if (model.stale) [kind, text] = ['bad', 'STALE']
  else if (model.about?.replay) [kind, text] = ['going', `recording, ${clock(model.at)}`]
  return <span class={'live ' + kind} role="status"><span class="dot" aria-hidden="true" />{text}</span>
}

function SetList({ model, route }: { model: Model; route: Route }) {
  const [filter, setFilter] = useState('')
  const all = model.sorted.filter((d) => d.key.includes(filter))
  const weight = (d: Daemon) => (d.head.release?.stands || d.head.stopped ? 4e9 : 0) + d.counts[failing]! * 1e5 + (d.head.release ? 1e4 : 0)
  all.sort((a, b) => weight(b) - weight(a))
  return <nav class="sets" aria-label="DaemonSets">
    <a class="set-link all" href="#/" aria-current={route.view === 'fleet' ? 'page' : undefined}>
      <span class="name">All DaemonSets</span><Bar counts={model.worstCounts} /></a>
    {model.sorted.length > 12 && <input class="filter" type="search" aria-label="Show DaemonSets whose name has" placeholder={`${model.sorted.length} DaemonSets`} value={filter} onInput={(e) => setFilter(e.currentTarget.value)} />}
    <ul>{all.map((d) => <li key={d.key}>
      <a class="set-link" href={setLink(d.key)} aria-current={route.view === 'set' && route.key === d.key ? 'page' : undefined}>
        <span class="name" title={d.key}><span class="namespace">{d.head.namespace}/</span>{d.head.name}</span>
        {d.counts[failing]! > 0 && <span class="count bad" title="failing">{number(d.counts[failing]!)}<span class="hidden"> failing</span></span>}
        {d.counts[failing] === 0 && d.counts[down]! > 0 && <span class="count down" title="down">{number(d.counts[down]!)}<span class="hidden"> down</span></span>}
        <Bar counts={d.counts} />
        {d.head.phase !== 'up to date' && <span class={'sub' + (d.head.release?.stands || d.head.stopped ? ' bad' : '')}>{d.head.phase}</span>}
      </a></li>)}</ul>
  </nav>
}

function Page({ token }: { token: string }) {
  const [model] = useState(() => new Model())
  const { connection, standing } = useFleet(model, token)
  const route = useRoute()
  const daemon = route.view === 'set' ? model.daemons.get(route.key) : undefined
  const title = route.view === 'set' ? route.key : route.view === 'node' ? route.name : 'fleet'
  useEffect(() => { document.title = `${title} · everynode` }, [title])
  // Who has gone elsewhere with the keyboard, or hears the page, goes on at the heading of what is there.
  const before = useRef(title)
  useEffect(() => {
    if (before.current === title) return
    before.current = title
    const to = document.querySelector<HTMLElement>('main h1') ?? document.querySelector('main')!
    to.focus({ preventScroll: true })
  }, [title])
  return <>
    <header class="top">
      <a class="brand" href="#/">everynode</a>
      <span class="cluster" title={model.cluster}>{model.about?.replay ? model.about.replay : model.cluster.replace(/^https?:\/\//, '')}</span>
      <Live model={model} standing={standing} />
      {model.about?.actions && <span class="badge">actions allowed</span>}
      <Search model={model} />
    </header>
    <Trouble model={model} standing={standing} />
    <div class="body">
      {model.known && <SetList model={model} route={route} />}
      <main tabIndex={-1}>
        {!model.known ? <Empty>{standing.kind === 'live' || standing.kind === 'connecting' ? 'Reading the cluster …' : ''}</Empty>
          : route.view === 'fleet' ? <FleetView model={model} connection={connection} />
          : route.view === 'node' ? <NodeView key={route.name} model={model} connection={connection} name={route.name} />
          : daemon ? <DaemonView key={route.key} model={model} connection={connection} of={daemon} />
          : <Empty>There is no DaemonSet {route.key}, or not any more.</Empty>}
      </main>
    </div>
  </>
}

function Trouble({ model, standing: s }: { model: Model; standing: Standing }) {
  const program = model.about?.program ?? 'everynode'
  if (s.kind === 'refused') return <p class="trouble" role="alert">This link is of an earlier run, or not complete. Open the one that <code>{program} ui</code> has printed last.</p>
  if (s.kind === 'failed') return <p class="trouble" role="alert">The cluster cannot be seen: {s.text}</p>
  if (s.kind === 'lost' && model.known) return <p class="trouble" role="alert">What is shown is of {clock(s.since)}: {s.text}. Does <code>{program} ui</code> still run?</p>
  if (s.kind === 'lost') return <p class="trouble" role="alert">The server does not answer: {s.text}. Does <code>{program} ui</code> still run?</p>
  if (model.stale) return <p class="trouble" role="alert">What is shown may be out of date {model.stale}</p>
  if (model.hidden) return <p class="left-out" role="status">{model.hidden[0]!.toUpperCase() + model.hidden.slice(1)}</p>
  return null
}

preparePaper()
render(<Page token={takeToken()} />, document.getElementById('page')!)
