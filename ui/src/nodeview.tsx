// One node: what it has of each DaemonSet and why, and what is said of the node itself.
import { useEffect, useState } from 'preact/hooks'
import type { Connection } from './connection'
import { EventTable } from './events'
import { failing, severity, words, type Model } from './model'
import { counted, Empty, LogTail, nodeLink, setLink, Since, State } from './parts'
import type { Condition, NodeDetail, Row } from './wire'

export function NodeView({ model, connection, name }: { model: Model; connection: Connection; name: string }) {
  const place = model.places.get(name)
  const [detail, setDetail] = useState<NodeDetail | null>(null)
  const [error, setError] = useState('')
  // What has changed on the map is asked about again.
  const standing = place === undefined ? 'gone' : model.sorted.map((d) => `${d.states[place]}${d.reasons[place]}`).join()
  useEffect(() => {
    if (place === undefined) return // nobody knows more of it
    let gone = false
    connection.ask<NodeDetail>('/v1/node', { name }).then((d) => { if (!gone) { setDetail(d); setError('') } }, (err: Error) => { if (!gone) setError(err.message) })
    return () => { gone = true }
  }, [name, standing])
  const d = detail?.name === name ? detail : null
  const n = place === undefined ? null : model.nodes[place]!
  const rows = d ? [...d.rows].sort(bySeverity) : sketch(model, place)
  return <>
    <header class="head">
      <h1 tabIndex={-1}>{name}</h1>
      <p class="lead">{!n ? <b class="bad">The cluster has no node of this name{d ? ' any more' : ''}.</b> :
        <><b class={'phase ' + (n.down ? 'bad' : 'good')}>{n.down ? 'not Ready' : 'Ready'}</b>
          {n.down && <> for <Since model={model} at={n.since} />: {n.down}</>}
          {[n.zone, n.pool].filter(Boolean).map((w) => <span key={w}> · {w}</span>)}
          {d && <> · <Since model={model} at={d.created} /> old</>}{d?.unschedulable && <b class="bad"> · cordoned</b>}</>}</p>
      {d && d.system.length > 0 && <p class="faint">{d.system.join(' · ')}</p>}
      {error && n && <p class="stopped" role="status">More could not be read: {error}</p>}
    </header>
    <section aria-labelledby="here"><h2 id="here">{counted(rows.length, 'DaemonSet')} here</h2>
      {rows.length === 0 ? <Empty>There is nothing to say.</Empty> :
        <ul class="rows">{rows.map((r) => <RowView key={r.set} row={r} model={model} connection={connection} node={name} />)}</ul>}</section>
    {d && <div class="columns">
      <section aria-labelledby="conditions"><h2 id="conditions">Conditions and taints</h2>
        <Conditions all={d.conditions} model={model} />
        {d.taints.length > 0 ? <ul class="taints" aria-label="Taints">{d.taints.map((t) => <li key={t}><code>{t}</code></li>)}</ul> : <Empty>No taints.</Empty>}</section>
      <section aria-labelledby="events"><h2 id="events">Events</h2>
        {d.unread && <p class="stopped">{d.unread}</p>}<EventTable all={d.events} model={model} /></section>
    </div>}
    <p class="neighbours"><Neighbours model={model} place={place} /></p>
  </>
}

const bySeverity = (a: Row, b: Row): number => severity.indexOf(a.state) - severity.indexOf(b.state) || (a.set < b.set ? -1 : 1)

/** What the map says, until the answer is there, or where there will be none. */
function sketch(model: Model, place: number | undefined): Row[] {
  if (place === undefined) return []
  return model.sorted.map((d) => {
    const r = model.reasons[d.reasons[place] ?? 0]
    const found = d.findings.find((f) => f.node === model.nodes[place]!.name)
    return { set: d.key, state: d.states[place] ?? 0, reason: r?.name ?? '', why: r?.sentence ?? '', log: found?.log ?? false,
      ...(found ? { detail: found.text, since: found.since ?? 0 } : {}) }
  }).sort(bySeverity)
}

function RowView({ row: r, model, connection, node }: { row: Row; model: Model; connection: Connection; node: string }) {
  const bad = r.state === failing
  const [open, setOpen] = useState<boolean | null>(null)
  const logs = open ?? (bad && !!r.log)
  const detail = r.detail?.startsWith(r.reason + ': ') ? r.detail.slice(r.reason.length + 2) : r.detail
  return <li class={'row ' + words[r.state]!.replace(' ', '-')}>
    <div class="row-head">
      <State state={r.state} />
      <a class="set" href={setLink(r.set)}>{r.set}</a>
      <b>{r.reason}</b>
      {!!r.since && <span class="faint">for <Since model={model} at={r.since} /></span>}
      {r.log && <button type="button" class="quiet" aria-expanded={logs} onClick={() => setOpen(!logs)}>{logs ? 'hide log' : 'log'}</button>}
    </div>
    {detail && <p class="detail">{detail}</p>}
    {r.state !== 1 && r.why && <p class="why">{r.why} {r.change && r.change !== r.why ? r.change : ''}</p>}
    {logs && <LogTail connection={connection} set={r.set} node={node} />}
    {r.commands?.map((c) => <Command key={c} text={c} />)}
  </li>
}

function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false)
  return <p class="command"><code>{text}</code> <button type="button" class="quiet" aria-label={'Copy ' + text}
    onClick={() => { navigator.clipboard.writeText(text).then(() => setCopied(true), () => setCopied(false)) }}>{copied ? 'copied' : 'copy'}</button></p>
}

function Conditions({ all, model }: { all: Condition[]; model: Model }) {
  return <table class="small"><thead><tr><th scope="col">Condition</th><th scope="col">Is</th><th scope="col">For</th><th scope="col">Says</th></tr></thead>
    <tbody>{all.map((c) => <tr key={c.type} class={c.bad ? 'bad-row' : ''}><th scope="row">{c.type}</th><td>{c.status}{c.bad && ' ⚠'}</td>
      <td><Since model={model} at={c.since} /></td><td>{c.message || c.reason}</td></tr>)}</tbody></table>
}

/** The nodes beside this one that need a look, too. */
function Neighbours({ model, place }: { model: Model; place: number | undefined }) {
  if (place === undefined) return null
  const others = [...model.places.values()].filter((p) => p !== place && model.worst[p] === failing).slice(0, 8)
  if (others.length === 0) return null
  return <>Other nodes that are failing: {others.map((p, i) => <span key={p}>{i > 0 && ', '}<a href={nodeLink(model.nodes[p]!.name)}>{model.nodes[p]!.name}</a></span>)}</>
}
