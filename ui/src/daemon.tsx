// One DaemonSet: the map, its release, what fails, and what has been.
import { useEffect, useRef, useState } from 'preact/hooks'
import type { Connection } from './connection'
import { EventTable } from './events'
import { Picture } from './picture'
import { clock, counted, Empty, Findings, moment, number, Since } from './parts'
import type { Daemon, Model } from './model'
import type { Event, Events, Moment, Release, Wave } from './wire'

export function DaemonView({ model, connection, of }: { model: Model; connection: Connection; of: Daemon }) {
  const h = of.head, r = h.release
  return <>
    <header class="head">
      <h1 tabIndex={-1}><span class="namespace">{h.namespace}/</span>{h.name}</h1>
      <p class="lead"><Phase of={of} /> <code>{h.revision}</code>
        {h.before?.length ? <> from <code>{h.before.slice(0, 2).join(', ')}</code>{h.before.length > 2 && ` and ${h.before.length - 2} more`}</> : null}
        {' · '}{number(of.there)} of {counted(of.meant, 'node')} have it
        {' · '}{h.strategy || 'RollingUpdate'}{h.budget && <Budget budget={h.budget} />}</p>
      {h.stopped && <p class="stopped" role="status">{h.stopped}</p>}
    </header>
    {(r || h.waves) && <Rail model={model} of={of} connection={connection} />}
    <Picture model={model} of={of} title={of.key} />
    <section aria-labelledby="look"><h2 id="look">To look at</h2>
      <Findings model={model} connection={connection} all={of.findings.map((finding) => ({ key: of.key, finding, sets: 1 }))} named={false} more={h.more ?? 0} /></section>
    <div class="columns">
      <Revisions of={of} />
      <TimeLine model={model} moments={of.history.moments} />
    </div>
    <SetEvents model={model} connection={connection} of={of} />
  </>
}

function Phase({ of }: { of: Daemon }) {
  const r = of.head.release
  const kind = of.head.stopped || r?.stands ? 'bad' : r || of.there < of.meant ? 'going' : 'good'
  return <b class={'phase ' + kind}>{of.head.phase}</b>
}

function Budget({ budget: b }: { budget: { maxUnavailable: number; maxSurge: number; used: number } }) {
  const most = Math.max(b.maxUnavailable, b.maxSurge)
  return <>, budget <span class="budget" title={`maxUnavailable ${b.maxUnavailable}, maxSurge ${b.maxSurge}`}>{number(b.used)} of {number(most)}</span></>
}

/** The waves of a release from left to right. */
function Rail({ model, of, connection }: { model: Model; of: Daemon; connection: Connection }) {
  const r = of.head.release, waves = of.head.waves ?? []
  return <section class="rail" aria-label="Release in waves">
    {r && <p class="release">
      <b class={r.stands ? 'bad' : 'going'}>release {r.number}</b>: {r.message || r.reason || r.phase}
      {r.policy && <span class="faint"> · policy {r.policy}</span>}
      <span class="faint"> · {number(r.exposed)} of {number(r.eligible)} exposed, {number(r.failed)} failed, quota {number(r.quota)}</span>
      {!!r.held && <b class="bad"> · the guard holds {counted(r.held, 'pod')}</b>}
    </p>}
    {waves.length > 0 && <ol class="waves">{waves.slice(0, 24).map((w, i) => <WaveStep key={i} wave={w} release={r} />)}
      {waves.length > 24 && <li class="wave">and {waves.length - 24} more</li>}</ol>}
    {r && model.about?.actions && <Actions of={of} release={r} connection={connection} />}
  </section>
}

function WaveStep({ wave: w, release: r }: { wave: Wave; release: Release | undefined }) {
  const done = w.nodes > 0 && w.there === w.nodes
  return <li class={'wave' + (w.open ? ' open' : '') + (done ? ' done' : '')} aria-current={w.open ? 'step' : undefined}>
    <span class="name">{w.name}</span>
    <span class="meter" aria-hidden="true"><span style={{ width: (w.nodes ? 100 * w.there / w.nodes : 0) + '%' }} /></span>
    <span class="faint">{number(w.there)} of {number(w.nodes)}
      {w.open && r?.soak ? <> · soaked {r.soak}</> : w.soak ? <> · soak {w.soak}</> : null}
      {w.approval && ' · approval'}</span>
  </li>
}

const verbs: Record<string, { button: string; says: (r: Release) => string }> = {
  pause: { button: 'Pause', says: (r) => `No more nodes get ${r.target} until somebody resumes. What has it keeps it.` },
  resume: { button: 'Resume', says: (r) => `${r.target} goes on. Nodes that have failed by now are forgiven.` },
  promote: { button: 'Promote', says: (r) => `The open wave, ${r.wave || 'none'}, is approved: ${r.target} goes to the next one.` },
  abort: { button: 'Abort', says: (r) => `All nodes go back to ${r.stable}. The template still asks for ${r.target}.` },
}

/** What a person may ask for. Each is asked about, by the name of its revision. */
function Actions({ of, release: r, connection }: { of: Daemon; release: Release; connection: Connection }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [asked, setAsked] = useState<{ verb: string; release: Release } | null>(null)
  const [said, setSaid] = useState('')
  const [busy, setBusy] = useState(false)
  const ask = (verb: string) => { setAsked({ verb, release: r }); setSaid(''); dialog.current!.showModal() }
  const confirm = async () => {
    const { verb, release } = asked!
    setBusy(true)
    try {
      setSaid((await connection.act(of.key, { verb, release: release.number, target: release.target, wave: verb === 'promote' ? release.wave ?? '' : '' })).said ?? '')
    } catch (err) {
      setSaid('Nothing came of it: ' + (err as Error).message)
    }
    setBusy(false)
    dialog.current!.close()
  }
  const offered = [r.paused || r.stands ? 'resume' : 'pause', 'promote', 'abort']
  const a = asked
  return <div class="actions" role="group" aria-label={`Release ${r.number} of ${r.target}`}>
    {offered.map((verb) => <button key={verb} type="button" class={verb === 'abort' ? 'danger' : ''} onClick={() => ask(verb)}>{verbs[verb]!.button} …</button>)}
    {said && <pre class="said" role="status">{said}</pre>}
    <dialog ref={dialog} aria-labelledby="confirm-title">
      {a && <>
        <h2 id="confirm-title">{verbs[a.verb]!.button} release {a.release.number} of {of.key}?</h2>
        <p>Revision <code>{a.release.target}</code>. {verbs[a.verb]!.says(a.release)}</p>
        <p class="buttons"><button type="button" onClick={() => dialog.current!.close()}>Leave it</button>
          <button type="button" class={a.verb === 'abort' ? 'danger' : 'main'} disabled={busy} onClick={() => void confirm()}>{verbs[a.verb]!.button} <code>{a.release.target}</code></button></p>
      </>}
    </dialog>
  </div>
}

function Revisions({ of }: { of: Daemon }) {
  const all = of.history.revisions
  return <section aria-labelledby="revisions"><h2 id="revisions">Revisions</h2>
    {all.length === 0 ? <Empty>None are kept.</Empty> :
      <table class="small"><thead><tr><th scope="col">No.</th><th scope="col">Hash</th><th scope="col">Pods</th><th scope="col">Made</th><th scope="col">Images</th></tr></thead>
        <tbody>{all.map((r) => <tr key={r.hash + r.number} class={r.hash === of.head.revision ? 'current' : ''}>
          <th scope="row">{r.number}</th><td><code>{r.hash}</code>{r.is && <span class="badge">{r.is}</span>}</td><td>{number(of.head.pods?.[r.hash] ?? 0)}</td>
          <td class="nowrap">{moment(r.created)}</td><td>{(r.images ?? []).join(', ')}{r.cause && <div class="faint">{r.cause}</div>}</td></tr>)}</tbody></table>}
  </section>
}

/** What others have written about the DaemonSet; it is asked for again when its phase is another. */
function SetEvents({ model, connection, of }: { model: Model; connection: Connection; of: Daemon }) {
  const [events, setEvents] = useState<Event[] | null>(null)
  const [error, setError] = useState('')
  useEffect(() => {
    let gone = false
    connection.ask<Events>('/v1/events', { set: of.key }).then((e) => { if (!gone) { setEvents(e.events); setError('') } }, (err: Error) => { if (!gone) setError(err.message) })
    return () => { gone = true }
  }, [of.key, of.head.phase])
  return <section aria-labelledby="events"><h2 id="events">Events</h2>
    {error ? <Empty>They could not be read: {error}</Empty> : events && <EventTable all={events} model={model} />}</section>
}

function TimeLine({ model, moments }: { model: Model; moments: Moment[] }) {
  return <section aria-labelledby="history"><h2 id="history">History</h2>
    {moments.length === 0 ? <Empty>Nothing is kept of it.</Empty> :
      <ol class="timeline">{moments.map((m, i) => <li key={i} class={m.kind}>
        <time dateTime={new Date(m.at).toISOString()} title={moment(m.at)}>{model.now() - m.at < 12 * 3600e3 ? clock(m.at) : moment(m.at)}</time>
        <span>{m.text} <span class="faint">(<Since model={model} at={m.at} /> ago)</span></span></li>)}</ol>}
  </section>
}
