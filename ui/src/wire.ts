// What the server sends. Made of the types of internal/fleetview: go test ./internal/fleetview -update

export interface About {
  version: number
  program: string
  actions: boolean
  replay?: string
}

export interface Action {
  verb: string
  release: number
  target: string
  wave?: string
}

export interface Answer {
  said?: string
  error?: string
}

export interface Budget {
  maxUnavailable: number
  maxSurge: number
  used: number
}

export interface Change {
  at: number
  stale?: string
  nodes?: Record<string, Node>
  sets?: Record<string, SetChange>
  gone?: string[]
}

export interface Condition {
  type: string
  status: string
  reason?: string
  message?: string
  since?: number
  bad?: boolean
}

export interface Event {
  at: number
  type: string
  reason: string
  message: string
  from?: string
  count?: number
}

export interface Events {
  events: Event[]
}

export interface Finding {
  id: number
  state: number
  reason: number
  text: string
  node: string
  nodes: number
  since?: number
  log?: boolean
}

export interface Head {
  namespace: string
  name: string
  revision: string
  before?: string[]
  pods?: Record<string, number>
  phase: string
  stopped?: string
  strategy: string
  budget?: Budget
  release?: Release
  waves?: Wave[]
  more?: number
}

export interface HeadPart {
  pods?: Record<string, number>
  phase?: string
  stopped?: string
  budget?: Budget
  release?: Release
  waves?: Wave[]
  more?: number
}

export interface History {
  revisions: Revision[]
  moments: Moment[]
}

export interface Log {
  pod: string
  container: string
  previous?: boolean
  lines: string[]
}

export interface Moment {
  at: number
  kind: string
  text: string
}

export interface Node {
  name: string
  zone?: string
  pool?: string
  down?: string
  since?: number
  held?: string
}

export interface NodeDetail {
  name: string
  created: number
  unschedulable?: boolean
  system: string[]
  taints: string[]
  conditions: Condition[]
  rows: Row[]
  events: Event[]
  unread?: string
}

export interface Reason {
  name: string
  sentence: string
}

export interface Release {
  number: number
  phase: string
  reason?: string
  message?: string
  policy?: string
  stable: string
  target: string
  wave?: string
  quota: number
  eligible: number
  exposed: number
  failed: number
  soak?: string
  stands?: boolean
  paused?: boolean
  held?: number
}

export interface Revision {
  number: number
  hash: string
  created: number
  images?: string[]
  cause?: string
  is?: string
}

export interface Row {
  set: string
  pod?: string
  state: number
  reason: string
  why: string
  detail?: string
  since?: number
  change?: string
  commands?: string[]
  log?: boolean
}

export interface Set {
  head: Head
  findings: Finding[]
  history: History
  cells: string
}

export interface SetChange {
  head?: Head
  part?: HeadPart
  found?: Finding[]
  lost?: number[]
  history?: History
  cells?: Record<string, string>
}

export interface State {
  at: number
  cluster: string
  stale: string
  hidden?: string
  reasons: Reason[]
  nodes: Node[]
  sets: Set[]
}

export interface Wave {
  name: string
  nodes: number
  there: number
  open?: boolean
  approval?: boolean
  soak?: string
}
