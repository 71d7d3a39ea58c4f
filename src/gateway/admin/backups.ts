/**
 * Backups of metadata over HTTP: `GET`, `POST /admin/v1/backups` and `DELETE /admin/v1/backups/{id}`. For root, and for users whose
 * policies allow `tidegate:ListBackups`, `tidegate:CreateBackup` and `tidegate:DropBackup`; no token may. The list says also how far behind
 * the remote store is, and why: what a backup can hold.
 */
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision, SegmentId } from '../../common/ids.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { AccessControl } from '../../store/access.ts'
import type { PortPlugin } from '../http/port.ts'

export interface BackupsPluginOptions {
  /** Undefined where metadata does not go to a remote store. */
  readonly names: BackupControl | undefined
  readonly access: AccessControl
  readonly monotonicMs: () => number
}

/** What this asks of the names stream. */
export interface BackupControl {
  readonly backups: { list(): readonly BackupView[] }
  backUp(deadlineMs: number): Promise<BackupView & { readonly complete: boolean }>
  dropBackup(id: string): Promise<void>
  status(): NamesView
}

interface BackupView {
  readonly id: string
  readonly createdMs: number
  readonly revision: Revision
  readonly stateMs: number
  readonly objects: number
  readonly bytes: number
  readonly ancestral: boolean
}

interface NamesView {
  readonly shippedThrough: Revision
  readonly durableRevision: Revision
  readonly behindMs: number
  readonly stateMs: number
  readonly heldBytes: number
  readonly heldUpBy: readonly SegmentId[]
  readonly writesWaiting: number
  readonly baseBytes: number
  readonly deltas: number
  readonly deltaBytes: number
  readonly baseDueBytes: number
  readonly unreadableBackups: readonly string[]
  readonly nextBackupMs: number | undefined
  readonly lastError: string | undefined
}

type BackupAction = 'tidegate:ListBackups' | 'tidegate:CreateBackup' | 'tidegate:DropBackup'

const DEFAULT_WAIT_SECONDS = 20
/** Below what commands and proxies wait for an answer. */
const WAIT_SECONDS_MAX = 50
const HELD_UP_BY_SHOWN_MAX = 20

export function createBackupsPlugin(options: BackupsPluginOptions): PortPlugin {
  return (app) => register(app, options)
}

function register(app: FastifyInstance, { names, access, monotonicMs }: BackupsPluginOptions): void {
  /** The stream, for who may do this. */
  const admitted = (request: FastifyRequest, action: BackupAction): BackupControl => {
    const authenticated = must(request.authenticated, 'authentication of a route that is not open')
    const facts = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
    access.authorize(authenticated.principal, action, {}, facts)
    if (names) return names
    throw new TidegateError(
      'InvalidRequest',
      'metadata is not backed up: the gateway has no remote store of its own (--remote)',
    )
  }

  app.get('/admin/v1/backups', { config: { operation: 'AdminListBackups' }, schema: LIST_SCHEMA }, (request, reply) => {
    const control = admitted(request, 'tidegate:ListBackups')
    return reply.send({ backups: control.backups.list().map(backupBody), names: namesBody(control.status()) })
  })

  app.post<{ Body: { waitSeconds?: number } | null }>(
    '/admin/v1/backups',
    { config: { operation: 'AdminCreateBackup' }, schema: CREATE_SCHEMA },
    async (request, reply) => {
      const control = admitted(request, 'tidegate:CreateBackup')
      const { waitSeconds = DEFAULT_WAIT_SECONDS } = request.body ?? {}
      const { complete, ...made } = await control.backUp(monotonicMs() + waitSeconds * 1000)
      return reply.code(201).send({ ...backupBody(made), complete, names: namesBody(control.status()) })
    },
  )

  app.delete<{ Params: { id: string } }>(
    '/admin/v1/backups/:id',
    { config: { operation: 'AdminDropBackup' }, schema: DROP_SCHEMA },
    async (request, reply) => {
      await admitted(request, 'tidegate:DropBackup').dropBackup(request.params.id)
      return reply.code(204).send()
    },
  )
}

function backupBody({ id, createdMs, revision, stateMs, objects, bytes, ancestral }: BackupView): object {
  return { id, created: time(createdMs), state: time(stateMs), revision, objects, bytes, ancestral }
}

function namesBody(view: NamesView): unknown {
  const { stateMs, nextBackupMs, heldUpBy, unreadableBackups, lastError, ...counts } = view
  const { shippedThrough, durableRevision, behindMs, heldBytes, writesWaiting } = counts
  const { baseBytes, deltas, deltaBytes, baseDueBytes } = counts
  return {
    shippedThrough,
    durableRevision,
    behindMs,
    state: shippedThrough < 0 ? null : time(stateMs),
    heldBytes,
    heldUpBy: heldUpBy.slice(0, HELD_UP_BY_SHOWN_MAX),
    writesWaiting,
    baseBytes,
    deltas,
    deltaBytes,
    baseDueBytes,
    unreadableBackups,
    nextBackup: nextBackupMs === undefined ? null : time(nextBackupMs),
    lastError: lastError ?? null,
  }
}

function time(ms: number): string {
  return new Date(ms).toISOString()
}

const TAGS = ['backups']
const COUNT = { type: 'integer', minimum: 0 }
const TIME = { type: 'string', format: 'date-time' }

const BACKUP_PROPERTIES = {
  id: { type: 'string', examples: ['20261122T063918Z-3fa9'] },
  created: TIME,
  state: { ...TIME, description: 'When the state was captured that it restores.' },
  revision: { ...COUNT, description: 'Revision of that state.' },
  objects: {
    ...COUNT,
    description: 'Objects in the remote store that it consists of; it shares them with other backups.',
  },
  bytes: COUNT,
  ancestral: { type: 'boolean', description: 'Made before the namespace was restored, by another data directory.' },
}
const BACKUP = { type: 'object', properties: BACKUP_PROPERTIES, required: Object.keys(BACKUP_PROPERTIES) }

const NAMES = {
  type: 'object',
  description: 'How far behind the metadata in the remote store is, and why.',
  properties: {
    shippedThrough: {
      type: 'integer',
      description: 'It holds the namespace as it was at this revision; -1: in no state yet.',
    },
    durableRevision: COUNT,
    behindMs: { type: 'number', description: 'For how long something has waited to get there.' },
    state: { ...TIME, type: ['string', 'null'] },
    heldBytes: { ...COUNT, description: 'Captured, and waiting for segments to arrive.' },
    heldUpBy: { type: 'array', items: { type: 'string' }, description: 'The oldest of those segments.' },
    writesWaiting: { ...COUNT, description: 'Writes that wait to be acknowledged as persisted.' },
    baseBytes: COUNT,
    deltas: COUNT,
    deltaBytes: COUNT,
    baseDueBytes: { ...COUNT, description: 'All rows are written anew once the deltas take more than this.' },
    unreadableBackups: {
      type: 'array',
      items: { type: 'string' },
      description: 'Damaged: nothing is freed in the remote store until they are dropped or mended.',
    },
    nextBackup: { ...TIME, type: ['string', 'null'] },
    lastError: { type: ['string', 'null'] },
  },
}

const LIST_SCHEMA = {
  tags: TAGS,
  summary: 'List the backups of metadata',
  response: {
    200: {
      description: 'The backups, the oldest first',
      type: 'object',
      properties: { backups: { type: 'array', items: BACKUP }, names: NAMES },
      required: ['backups', 'names'],
    },
  },
}

const CREATE_SCHEMA = {
  tags: TAGS,
  summary: 'Make a backup of metadata now',
  description:
    'Waits until what is durable now has arrived in the remote store, for a bounded time, and backs up what has.',
  body: {
    type: ['object', 'null'],
    additionalProperties: false,
    properties: {
      waitSeconds: { type: 'integer', minimum: 0, maximum: WAIT_SECONDS_MAX, default: DEFAULT_WAIT_SECONDS },
    },
  },
  response: {
    201: {
      description: 'It is made',
      type: 'object',
      properties: {
        ...BACKUP_PROPERTIES,
        complete: { type: 'boolean', description: 'Whether it has all that was durable when it was asked for.' },
        names: NAMES,
      },
      required: [...Object.keys(BACKUP_PROPERTIES), 'complete', 'names'],
    },
  },
}

const DROP_SCHEMA = {
  tags: TAGS,
  summary: 'Drop a backup',
  description: 'What only it needed is freed in the remote store.',
  params: { type: 'object', properties: { id: { type: 'string', minLength: 1, maxLength: 64 } }, required: ['id'] },
  response: { 204: { description: 'It is dropped', type: 'null' } },
}
