/**
 * Write-behind over HTTP: `GET /admin/v1/flush` and `POST /admin/v1/flush/{pause,resume,drain}`. For root, and for users whose
 * policies allow `tidegate:GetFlush` and `tidegate:ControlFlush`; no token may.
 *
 * A drain may take hours and a request may not, so it waits for a bounded time and answers with what is left and a number (`through`);
 * asked again with that number it goes on waiting for the very same segments, however many came since.
 */
import { must } from '../../common/assert.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { AccessControl } from '../../store/access.ts'
import type { PortPlugin } from '../http/port.ts'

export interface FlushPluginOptions {
  readonly flush: FlushControl
  readonly access: AccessControl
}

/** What this asks of write-behind. */
export interface FlushControl {
  status(): FlushView
  pause(): void
  resume(): void
  /** Without `through` the open segment is sealed first, and what fails is tried at once. */
  drain(options: { readonly waitMsMax: number; readonly through: number | undefined }): Promise<DrainView>
}

interface FlushView {
  readonly paused: boolean
  readonly awayMs: number | undefined
  readonly items: number
  readonly bytes: number
  readonly oldestAgeMs: number | undefined
  readonly uploads: readonly { readonly segment: string; readonly bytes: number; readonly forMs: number }[]
  readonly failingItems: number
  readonly failing: readonly ItemView[]
  readonly bytesPerSecond: number | undefined
  readonly totals: {
    readonly persistedItems: number
    readonly persistedBytes: number
    readonly notSentItems: number
    readonly notSentBytes: number
    readonly failures: ReadonlyMap<string, number>
  }
  readonly pressure: {
    readonly backlogBytes: number
    readonly backlogBytesMax: number
    readonly fill: number
    readonly waiting: number
    readonly accepted: number
    readonly slowed: number
    readonly refused: number
    readonly waitedMs: number
  }
  /** Undefined where there is no remote store of its own. */
  readonly names: NamesView | undefined
}

/** How much of metadata the remote store knows. */
interface NamesView {
  readonly shippedThrough: number
  readonly durableRevision: number
  readonly stateMs: number
  readonly behindMs: number
  readonly heldUpBy: readonly string[]
  readonly backups: number
  readonly lastError: string | undefined
  /** Number of the node that ships names for all. */
  readonly holder?: number | undefined
}

interface ItemView {
  readonly segment: string
  readonly bucket: string | undefined
  readonly bytes: number
  readonly ageMs: number
  readonly action: string
  readonly attempts: number
  readonly cause: { readonly code: string; readonly message: string } | undefined
  readonly nextTryInMs: number
}

interface DrainView {
  readonly through: number
  readonly paused: boolean
  readonly leftItems: number
  readonly leftBytes: number
  readonly left: readonly ItemView[]
  /** All segments are there, and what names them is not. */
  readonly namesLeft: boolean
}

interface DrainBody {
  readonly waitSeconds?: number
  readonly through?: number
}

const DEFAULT_WAIT_SECONDS = 20
const LISTED_SEGMENTS_MAX = 100
/** Below what commands and proxies wait for an answer. */
const WAIT_SECONDS_MAX = 50

export function createFlushPlugin(options: FlushPluginOptions): PortPlugin {
  return (app) => register(app, options)
}

function register(app: FastifyInstance, { flush, access }: FlushPluginOptions): void {
  const admit = (request: FastifyRequest, action: 'tidegate:GetFlush' | 'tidegate:ControlFlush'): void => {
    const authenticated = must(request.authenticated, 'authentication of a route that is not open')
    const facts = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
    access.authorize(authenticated.principal, action, {}, facts)
  }

  app.get('/admin/v1/flush', { config: { operation: 'AdminGetFlush' }, schema: STATUS_SCHEMA }, (request, reply) => {
    admit(request, 'tidegate:GetFlush')
    return reply.send(statusBody(flush.status()))
  })

  app.post(
    '/admin/v1/flush/pause',
    { config: { operation: 'AdminPauseFlush' }, schema: PAUSE_SCHEMA },
    (request, reply) => {
      admit(request, 'tidegate:ControlFlush')
      flush.pause()
      return reply.send(statusBody(flush.status()))
    },
  )

  app.post(
    '/admin/v1/flush/resume',
    { config: { operation: 'AdminResumeFlush' }, schema: RESUME_SCHEMA },
    (request, reply) => {
      admit(request, 'tidegate:ControlFlush')
      flush.resume()
      return reply.send(statusBody(flush.status()))
    },
  )

  app.post<{ Body: DrainBody | null }>(
    '/admin/v1/flush/drain',
    { config: { operation: 'AdminDrainFlush' }, schema: DRAIN_SCHEMA },
    async (request, reply) => {
      admit(request, 'tidegate:ControlFlush')
      const { waitSeconds = DEFAULT_WAIT_SECONDS, through } = request.body ?? {}
      const { left, leftItems, ...rest } = await flush.drain({ waitMsMax: waitSeconds * 1000, through })
      return reply.send({ ...rest, drained: leftItems === 0 && !rest.namesLeft, leftItems, left: left.map(itemBody) })
    },
  )
}

function statusBody(view: FlushView): unknown {
  const { awayMs, oldestAgeMs, bytesPerSecond, failing, totals } = view
  return {
    ...view,
    awayMs: awayMs ?? null,
    oldestAgeMs: oldestAgeMs ?? null,
    bytesPerSecond: bytesPerSecond ?? null,
    failing: failing.map(itemBody),
    totals: { ...totals, failures: Object.fromEntries(totals.failures) },
    names: namesBody(view.names),
  }
}

function namesBody(names: NamesView | undefined): unknown {
  if (!names) return null
  const { shippedThrough, durableRevision, stateMs, behindMs, heldUpBy, backups, lastError, holder } = names
  return {
    shippedRevision: shippedThrough < 0 ? null : shippedThrough,
    durableRevision,
    stateMs: shippedThrough < 0 ? null : stateMs,
    behindMs,
    heldUpBy: heldUpBy.slice(0, LISTED_SEGMENTS_MAX),
    backups,
    lastError: lastError ?? null,
    holder: holder ?? null,
  }
}

function itemBody({ bucket, cause, ...item }: ItemView): unknown {
  return { ...item, bucket: bucket ?? null, cause: cause ?? null }
}

const TAGS = ['flush']

const number = (description: string): object => ({ type: 'number', description })
const numberOrNull = (description: string): object => ({ type: ['number', 'null'], description })

/** All of them are always there. */
function record(properties: Readonly<Record<string, object>>): object {
  return { type: 'object', properties, required: Object.keys(properties) }
}

const SEGMENT = { type: 'string', description: 'Its id; the object is segments/<last two digits>/<id>.seg.' }

const ITEM = record({
  segment: SEGMENT,
  bucket: { type: ['string', 'null'], description: 'Whose body it holds; null: bodies of several share it.' },
  bytes: number('Of its data.'),
  ageMs: number('Since its first byte was written.'),
  action: { type: 'string', enum: ['persist', 'mend'], description: 'mend: its write failed, and it is sealed anew.' },
  attempts: number('That failed.'),
  cause: {
    ...record({ code: { type: 'string' }, message: { type: 'string' } }),
    type: ['object', 'null'],
    description: 'Why the last one did.',
  },
  nextTryInMs: number('0: now, or when it is its turn.'),
})

const STATUS = record({
  paused: { type: 'boolean' },
  awayMs: numberOrNull('How long nothing has got through to the remote store; null while it answers.'),
  items: number('Sealed segments that are not in the remote store.'),
  bytes: number('Of them.'),
  oldestAgeMs: numberOrNull('Of the oldest of them.'),
  uploads: {
    type: 'array',
    items: record({ segment: SEGMENT, bytes: number('Of it.'), forMs: number('Since it began.') }),
  },
  failingItems: number('Segments whose last try failed.'),
  failing: { type: 'array', items: ITEM, description: 'The first hundred of them.' },
  bytesPerSecond: numberOrNull('What is carried while there is something to carry; null while it is not known.'),
  totals: {
    ...record({
      persistedItems: number('Segments.'),
      persistedBytes: number('In them.'),
      notSentItems: number('Segments that were overwritten or deleted before they left.'),
      notSentBytes: number('In them.'),
      failures: { type: 'object', additionalProperties: { type: 'number' }, description: 'Failed tries, by code.' },
    }),
    description: 'Since the start of the gateway.',
  },
  pressure: {
    ...record({
      backlogBytes: number('What is in the journal and not in the remote store, unsealed bytes included.'),
      backlogBytesMax: number('From half of it on writers are slowed; above it they wait, and are refused.'),
      fill: number('0: nobody is slowed. 1 and above: nobody is let in.'),
      waiting: number('Pieces of bodies that wait now.'),
      accepted: number('Pieces let in.'),
      slowed: number('Those that had to wait.'),
      refused: number('Those that waited too long.'),
      waitedMs: number('All their waits together.'),
    }),
    description: 'How writers are slowed.',
  },
  names: {
    ...record({
      shippedRevision: numberOrNull(
        'The remote store holds the namespace as of this revision; null: it holds none yet.',
      ),
      durableRevision: number('Of the namespace here.'),
      stateMs: numberOrNull('When that state was captured, in ms since 1970.'),
      behindMs: number('For how long a change has waited to be told.'),
      heldUpBy: {
        type: 'array',
        items: { type: 'string' },
        description: 'Segments that must arrive first, some of them.',
      },
      backups: number('Backups kept.'),
      lastError: { type: ['string', 'null'], description: 'Why shipping failed, while it does.' },
      holder: numberOrNull(
        'Where nodes share the metadata: the one that ships names for all; null: none does, or there are no nodes.',
      ),
    }),
    type: ['object', 'null'],
    description: 'How much of metadata the remote store knows; null where it lies under the data directory.',
  },
})

const STATUS_SCHEMA = {
  tags: TAGS,
  summary: 'Say how far write-behind is',
  response: { 200: { description: 'Backlog, uploads under way, what fails and why', ...STATUS } },
}

const PAUSE_SCHEMA = {
  tags: TAGS,
  summary: 'Let nothing leave for the remote store',
  description:
    'What is on its way arrives. Writes with ack persisted are refused with Unavailable after they were published; others are slowed once the backlog is half full. It ends with resume, or with the gateway.',
  response: { 200: { description: 'It is paused', ...STATUS } },
}

const RESUME_SCHEMA = {
  tags: TAGS,
  summary: 'Let segments leave again',
  response: { 200: { description: 'It is not paused', ...STATUS } },
}

const DRAIN_SCHEMA = {
  tags: TAGS,
  summary: 'Wait until all that is written now is in the remote store',
  description: 'Seals the open segment and tries at once what failed. Bodies on their way in are not waited for.',
  body: {
    type: ['object', 'null'],
    additionalProperties: false,
    properties: {
      waitSeconds: { type: 'number', minimum: 0, maximum: WAIT_SECONDS_MAX, default: DEFAULT_WAIT_SECONDS },
      through: {
        type: 'integer',
        minimum: 0,
        description: 'From an earlier answer: goes on waiting for the same segments.',
      },
    },
  },
  response: {
    200: {
      description: 'It is drained, or not yet',
      ...record({
        drained: { type: 'boolean' },
        through: number('To ask again with.'),
        paused: { type: 'boolean', description: 'Then nothing leaves, and this did not wait.' },
        leftItems: number('Segments that are still not there.'),
        leftBytes: number('In them.'),
        left: { type: 'array', items: ITEM, description: 'The first hundred of them, those that fail first.' },
        namesLeft: {
          type: 'boolean',
          description: 'Metadata, and the small bodies that lie in it, have not all arrived.',
        },
      }),
    },
  },
}
