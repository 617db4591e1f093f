// The nodes as a table: what the map shows, for who reads or hears it.
import { useState } from 'preact/hooks'
import type { Group } from './map'
import { severity, words, type Model } from './model'
import { nodeLink, number, State } from './parts'

const perPage = 50

export function NodeTable({ model, groups, states, only, reason, caption }: {
  model: Model; groups: Group[]; states: Uint8Array; only: number | null; reason: (place: number) => string; caption: string }) {
  const [page, setPage] = useState(0)
  const grouped = groups.length > 1
  const rank = (place: number) => severity.indexOf(states[place] ?? 0)
  const rows = groups.flatMap((g) => g.places.map((place) => ({ place, group: g.name })))
    .filter((r) => only === null || states[r.place] === only)
    .sort((a, b) => rank(a.place) - rank(b.place))
  const pages = Math.max(1, Math.ceil(rows.length / perPage)), shown = Math.min(page, pages - 1)
  return <div class="table">
    <table>
      <caption>{caption}: {number(rows.length)} of {number(model.places.size)} nodes{only === null ? '' : ', those that are ' + words[only]}</caption>
      <thead><tr><th scope="col">State</th><th scope="col">Node</th>{grouped && <th scope="col">Group</th>}<th scope="col">Reason</th></tr></thead>
      <tbody>{rows.slice(shown * perPage, (shown + 1) * perPage).map(({ place, group }) => {
        const n = model.nodes[place]!
        return <tr key={place}><td><State state={states[place] ?? 0} /></td><th scope="row"><a href={nodeLink(n.name)}>{n.name}</a></th>
          {grouped && <td>{group}</td>}<td>{reason(place)}</td></tr>
      })}</tbody>
    </table>
    {pages > 1 && <div class="pages" role="group" aria-label="Pages of the table">
      <button type="button" disabled={shown === 0} onClick={() => setPage(shown - 1)}>before</button>
      <span>page {shown + 1} of {pages}</span>
      <button type="button" disabled={shown === pages - 1} onClick={() => setPage(shown + 1)}>after</button>
    </div>}
  </div>
}
