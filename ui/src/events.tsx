// Events of the cluster as a table.
import type { Model } from './model'
import { Empty, moment, Since } from './parts'
import type { Event } from './wire'

export function EventTable({ all, model }: { all: Event[]; model: Model }) {
  if (all.length === 0) return <Empty>None are kept.</Empty>
  return <table class="small"><thead><tr><th scope="col">Ago</th><th scope="col">Event</th><th scope="col">Says</th></tr></thead>
    <tbody>{all.map((e, i) => <tr key={i} class={e.type === 'Warning' ? 'bad-row' : ''}><td title={moment(e.at)}><Since model={model} at={e.at} /></td>
      <th scope="row">{e.reason}{(e.count ?? 0) > 1 && ` ×${e.count}`}</th><td>{e.message}</td></tr>)}</tbody></table>
}
