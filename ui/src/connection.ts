// The stream of the server. It is read with fetch, as only that can send the token in a header. When it breaks it is opened
// again, and what was seen last stays.
import type { About, Answer, Change, State } from './wire'

/** What the connection is, in words for a person; 'live' is the good one. */
export type Standing = { kind: 'connecting' | 'live' | 'lost' | 'refused' | 'failed'; text: string; since: number }

export interface Listener {
  about(a: About): void
  state(s: State): void
  change(c: Change): void
  standing(s: Standing): void
}

// The server says something every 10 seconds.
const silence = 25_000
// A tab that nobody has seen for so long is told nothing more, until it is seen again: while no page is seen the cluster is asked nothing.
const unseen = 300_000
const pauses = [250, 500, 1000, 2000, 4000]

export class Connection {
  private standing: Standing = { kind: 'connecting', text: '', since: Date.now() }
  private abort = new AbortController()
  private rests = false
  private changes = 0
  private wake = () => {}

  constructor(private readonly token: string, private readonly to: Listener) {
    let timer: ReturnType<typeof setTimeout> | undefined
    document.addEventListener('visibilitychange', () => {
      clearTimeout(timer)
      if (document.hidden) timer = setTimeout(() => { this.rests = true; this.abort.abort() }, unseen)
      else { this.rests = false; this.wake() }
    })
  }

  private say(kind: Standing['kind'], text = ''): void {
    const since = kind === this.standing.kind ? this.standing.since : Date.now()
    this.standing = { kind, text, since }
    this.to.standing(this.standing)
  }

  /** Follows the fleet until the token is refused. */
  async follow(): Promise<void> {
    for (let tries = 0; ; tries++) {
      if (this.rests) {
        this.say('connecting')
        await new Promise<void>((done) => { this.wake = done })
        tries = 0
      }
      try {
        if (!(await this.read(() => { tries = 0 }))) return
        this.say('lost', 'the server has ended the stream')
      } catch (err) {
        if (this.rests) continue
        this.say('lost', err instanceof Error ? err.message : String(err))
      }
      await new Promise((done) => setTimeout(done, pauses[Math.min(tries, pauses.length - 1)]))
    }
  }

  /** Reads one stream to its end; false: it will never be given to us. */
  private async read(began: () => void): Promise<boolean> {
    const abort = this.abort = new AbortController()
    let timer = setTimeout(() => abort.abort(), silence)
    try {
      const response = await fetch('/v1/stream', { headers: this.headers(), signal: abort.signal })
      if (response.status === 401) {
        this.say('refused', await response.text())
        return false
      }
      if (!response.ok || !response.body) throw new Error(await response.text())
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      let rest = ''
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return true
        clearTimeout(timer)
        timer = setTimeout(() => abort.abort(), silence)
        began()
        rest += value
        const parts = rest.split('\n\n')
        rest = parts.pop()!
        for (const part of parts) this.take(part)
      }
    } catch (err) {
      if (abort.signal.aborted) throw new Error('nothing was heard of the server for a while')
      throw err
    } finally {
      clearTimeout(timer)
    }
  }

  private take(event: string): void {
    let kind = '', data = ''
    for (const line of event.split('\n')) {
      if (line.startsWith('event: ')) kind = line.slice(7)
      else if (line.startsWith('data: ')) data += line.slice(6)
    }
    if (data === '') return
    this.measure(kind)
    const value: unknown = JSON.parse(data)
    switch (kind) {
      case 'about': this.to.about(value as About); break
      case 'state': this.to.state(value as State); this.say('live'); break
      case 'change': this.to.change(value as Change); this.say('live'); break
      case 'alive': if (this.standing.kind === 'live') this.say('live'); break
      case 'failure': this.say('failed', (value as Answer).error ?? ''); break
    }
  }

  /** Notes what comes, for measurements (BenchmarkFrames): when the first state did, and how many changes since. */
  private measure(kind: string): void {
    if (kind === 'state' && performance.getEntriesByName('state').length === 0) performance.mark('state')
    if (kind !== 'change') return
    performance.clearMarks('changes')
    performance.mark('changes', { detail: ++this.changes })
  }

  private headers(): Record<string, string> { return { Authorization: 'Bearer ' + this.token } }

  /** Asks for something; an error is for a person to read. */
  async ask<T>(path: string, query: Record<string, string>): Promise<T> {
    return this.answered<T>(await fetch(path + '?' + new URLSearchParams(query).toString(), { headers: this.headers() }))
  }

  /** Asks for a change. */
  async act(set: string, action: object): Promise<Answer> {
    const response = await fetch('/v1/action?' + new URLSearchParams({ set }).toString(),
      { method: 'POST', headers: { ...this.headers(), 'Content-Type': 'application/json' }, body: JSON.stringify(action) })
    return this.answered<Answer>(response)
  }

  private async answered<T>(response: Response): Promise<T> {
    const text = await response.text()
    if (response.ok) return JSON.parse(text) as T
    let said = text
    try { said = (JSON.parse(text) as Answer).error ?? text } catch { /* it is a sentence already */ }
    throw new Error(said || response.statusText)
  }
}

/** The token of the address, which is taken out of it, or the one that this tab has had before. */
export function takeToken(): string {
  const given = /^#token=([\w-]+)$/.exec(location.hash)
  if (given) {
    sessionStorage.setItem('token', given[1]!)
    history.replaceState(null, '', location.pathname + '#/')
    return given[1]!
  }
  return sessionStorage.getItem('token') ?? ''
}
