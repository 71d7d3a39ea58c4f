/** What `GET /admin/v1/status` answers with, for its description (status.ts). */
const text = (description: string): object => ({ type: 'string', description })
const textOrNull = (description: string): object => ({ type: ['string', 'null'], description })
const number = (description: string): object => ({ type: 'number', description })
const numberOrNull = (description: string): object => ({ type: ['number', 'null'], description })

/** All of them are always there. */
function record(properties: Readonly<Record<string, object>>): object {
  return { type: 'object', properties, required: Object.keys(properties) }
}

function recordOrNull(description: string, properties: Readonly<Record<string, object>>): object {
  return { ...record(properties), type: ['object', 'null'], description }
}

function listOf(description: string, properties: Readonly<Record<string, object>>): object {
  return { type: 'array', items: record(properties), description }
}

const OWN_NODE = record({
  number: numberOrNull('As node.json in its data directory says; null: it shares its metadata with nobody.'),
  version: text('Of the gateway.'),
  upMs: number('Since it began to serve.'),
  trouble: textOrNull('Why nothing, or only reads, can be served; null: all is well.'),
})

const NODES = listOf('Those alive; empty where metadata are not shared.', {
  number: number('As node.json in its data directory says.'),
  name: text('For people.'),
  address: text('Where the others reach it.'),
  state: { type: 'string', enum: ['starting', 'serving', 'leaving'] },
  version: text('Of its gateway.'),
  weight: number('Its share of the blocks among the others; 0: it owns none.'),
  labels: {
    type: 'object',
    additionalProperties: { type: 'string' },
    description: 'Nodes that differ in one fail apart.',
  },
  isSelf: { type: 'boolean', description: 'Whether it is the one that answers.' },
  isReachable: { type: ['boolean', 'null'], description: 'From the one that answers; null: it has not tried.' },
  roundTripMs: numberOrNull('To it and back, as measured last; null: not known.'),
  fabric: textOrNull('verbs or tcp: by which fabric large bodies go there; null: by the connection.'),
})

const LOST = listOf('Nodes that are away and that something is left of.', {
  number: number('As node.json in its data directory says.'),
  name: textOrNull('For people; null: not known.'),
  state: text(
    'away: within its grace; fenced: what it had is being taken over; cleaned: nothing is left to do; unknown: its gateway says nothing of itself.',
  ),
  awayMs: numberOrNull('Since it was seen last; null: not known.'),
})

const LEVEL = {
  bytesHeld: number('In it.'),
  bytesMax: number('That it may hold.'),
  hits: number('Blocks found in it, since the start.'),
  misses: number('Blocks that had to be fetched from below it.'),
}

const TIERS = record({
  memory: record(LEVEL),
  disk: recordOrNull('Null: there is no disk level.', LEVEL),
  neighbours: recordOrNull('Blocks of other nodes, since the start; null: there are none.', {
    hits: number('Blocks that another node had.'),
    misses: number('Blocks that it did not have.'),
    timeouts: number('Questions that were not answered in time.'),
    badPages: number('Answers whose checksums did not fit.'),
    bytesIn: number('From other nodes.'),
    bytesOut: number('To other nodes.'),
    peers: number('Nodes that there is a connection to.'),
  }),
  remote: recordOrNull('The remote store; null: there is none of its own.', {
    trouble: textOrNull('Why reads of it fail; null: it answers.'),
  }),
})

const BACKLOG = record({
  bytes: number('In the journal and not in the remote store, unsealed bytes included.'),
  bytesMax: number('From half of it on writers are slowed; above it they wait, and are refused.'),
  segments: number('Sealed segments that are not in the remote store.'),
  oldestAgeMs: numberOrNull('Of the oldest of them.'),
  failingSegments: number('Whose last try failed.'),
  paused: { type: 'boolean' },
  copiesWaiting: number('Segments that are to be copied to another node and are not yet.'),
})

const HOLDINGS = recordOrNull('Whose which segments are; null: metadata are not shared.', {
  ageMs: number('Since they were counted.'),
  isComplete: { type: 'boolean', description: 'False: there are more segments than are looked through.' },
  trouble: textOrNull('Why they could not be counted just now.'),
  byNode: listOf('By node and state.', {
    node: number('Whose they are.'),
    state: text('Of the segments.'),
    segments: number('How many.'),
    bytes: number('In them.'),
  }),
  copiesHere: record({ segments: number("Copies of other nodes' segments, here."), bytes: number('In them.') }),
  unreachable: listOf('Segments that can be reached nowhere until their node is back.', {
    node: number('That had them.'),
    segments: number('How many.'),
    bytes: number('In them.'),
  }),
})

export const STATUS_SCHEMA: object = {
  tags: ['cluster'],
  summary: 'Say how this gateway and those beside it are',
  description: 'As the one that answers knows it. What segments there are is counted some seconds before.',
  response: {
    200: {
      description: 'Nodes, tiers, backlog, and who holds what',
      ...record({
        node: OWN_NODE,
        nodes: NODES,
        lost: LOST,
        tiers: TIERS,
        backlog: BACKLOG,
        holdings: HOLDINGS,
      }),
    },
  },
}
