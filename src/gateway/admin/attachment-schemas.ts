/** OpenAPI of attached buckets (attachments.ts). */
import { CONFLICT_POLICIES } from '../../common/external.ts'
import type { AckLevel } from '../../common/model.ts'
import { KEEPS } from './attachment-views.ts'

const TAGS = ['attachments']

export const DEFAULT_POLICY = {
  conflicts: 'fail',
  ttlMs: 10_000,
  listingTtlMs: 60_000,
  compareIntervalMs: 3_600_000,
} as const
export const DEFAULT_WAIT_SECONDS = 20
/** Below what commands and proxies wait for an answer. */
const WAIT_SECONDS_MAX = 50
const AGE_MS_MAX = 30 * 86_400_000
export const CONFLICTS_PAGE_MAX = 1000
const URL_LENGTH_MAX = 2048

/** `replicated` needs more than one node. */
const BUCKET_ACKS = ['memory', 'journal', 'persisted'] as const satisfies readonly AckLevel[]

const COUNT = { type: 'integer', minimum: 0 }
const TEXT = { type: 'string' }
const TIME = { type: 'string', format: 'date-time' }
const TIME_OR_NULL = { ...TIME, type: ['string', 'null'] }
const TEXT_OR_NULL = { type: ['string', 'null'] }
const MS_OR_NULL = { type: ['number', 'null'] }
const YES_OR_NO = { type: 'boolean' }

type Properties = Readonly<Record<string, object>>

/** All of them are always there. */
function record(properties: Properties): object {
  return { type: 'object', properties, required: Object.keys(properties) }
}

function orNull(schema: object, description: string): object {
  return { ...schema, type: ['object', 'null'], description }
}

const NAME = { ...TEXT, description: 'Name of the bucket here.', examples: ['photos'] }
const PARAMS = { type: 'object', properties: { bucket: NAME }, required: ['bucket'] }

const POLICY: Properties = {
  conflicts: {
    ...TEXT,
    enum: CONFLICT_POLICIES,
    description:
      'What becomes of a key that was changed here and outside: fail (it is listed until somebody decides), keep-both (theirs takes the key, ours another one), last-writer-wins (ours). The first two need a store with conditional PUT and DELETE.',
  },
  ttlMs: {
    ...COUNT,
    maximum: AGE_MS_MAX,
    description: 'For how long what was seen of one key counts. 0: it is always looked at.',
  },
  listingTtlMs: { ...COUNT, maximum: AGE_MS_MAX, description: 'For how long a listing counts.' },
  compareIntervalMs: {
    ...COUNT,
    maximum: AGE_MS_MAX,
    description: 'How old what was listed gets before it is listed again in the background; 0: that is not done.',
  },
}

const PLACE = {
  ...TEXT,
  minLength: 1,
  maxLength: URL_LENGTH_MAX,
  description:
    's3://BUCKET/PREFIX?endpoint=URL&region=NAME&profile=NAME&style=path|host. Holds no secret: credentials are those of the gateway.',
  examples: ['s3://photos/2026?endpoint=https://s3.example.com&region=eu-west-1'],
}

const CAUSE = record({ code: TEXT, message: TEXT })

const IMPORT = record({
  state: { ...TEXT, enum: ['running', 'done', 'failed', 'stopped'] },
  started: TIME,
  ended: TIME_OR_NULL,
  keys: { ...COUNT, description: 'Listed.' },
  changed: { ...COUNT, description: 'Of which nothing was known, or something else.' },
  keysPerSecond: { type: 'number' },
  requests: COUNT,
  rangesLeft: { ...COUNT, description: 'Ranges of keys that are being listed, or wait for that.' },
  share: { type: 'number', description: 'From 0 to 1; a guess.' },
  problem: { ...TEXT_OR_NULL, description: 'Why it failed, or what holds it up now.' },
})

const WRITE_BACK = record({
  dirty: { ...COUNT, description: 'Keys that were changed here and are not in the external bucket yet.' },
  dirtyIsAtLeast: { ...YES_OR_NO, description: 'There are more than were counted.' },
  conflicts: { ...COUNT, description: 'Keys that wait for somebody to decide.' },
  oldestAgeMs: { ...MS_OR_NULL, description: 'Of the oldest change that is not carried out.' },
  underWay: COUNT,
  failing: { ...COUNT, description: 'Keys whose last try failed.' },
  awayMs: { ...MS_OR_NULL, description: 'How long the store has taken nothing; null: it does.' },
  failed: {
    type: 'array',
    items: record({ key: TEXT, attempts: COUNT, cause: CAUSE, nextTryInMs: { type: 'number' } }),
    description: 'The first hundred of those that fail.',
  },
  renames: {
    type: 'array',
    description: 'Renames of directories that are being carried out.',
    items: record({
      from: TEXT,
      to: TEXT,
      started: TIME,
      keys: { ...COUNT, description: 'Below it, as far as they are counted.' },
      keysIsAtLeast: YES_OR_NO,
      carriedOut: { ...COUNT, description: 'Copies and removals, since the gateway was started.' },
    }),
  },
})

const CAPABILITIES = record({
  conditionalPut: YES_OR_NO,
  conditionalDelete: YES_OR_NO,
  conditionalComplete: YES_OR_NO,
  conditionalCopy: YES_OR_NO,
})

const ATTACHMENT = record({
  bucket: NAME,
  url: PLACE,
  ...POLICY,
  attached: TIME,
  state: { ...TEXT, enum: ['attached', 'detaching'] },
  capabilities: orNull(CAPABILITIES, 'What its store can decide; null: it could not be asked yet.'),
  problem: { ...TEXT_OR_NULL, description: 'Why it could not be asked, or what it lacks.' },
  paused: { ...YES_OR_NO, description: 'Nothing is carried out.' },
  writeBack: WRITE_BACK,
  import: orNull(IMPORT, 'The last import since the gateway was started.'),
  compare: orNull(
    record({ pages: COUNT, keys: COUNT, changed: COUNT, completed: TIME_OR_NULL, lastError: TEXT_OR_NULL }),
    'What listing again in the background has found since the gateway was started.',
  ),
  events: {
    ...record({ taken: COUNT, ignored: COUNT, unread: COUNT, overflowed: COUNT, waiting: COUNT }),
    description: 'Notifications of changes since the gateway was started.',
  },
  unheld: {
    ...record({
      keys: COUNT,
      isAtLeast: { ...YES_OR_NO, description: 'There were more than are remembered.' },
      listed: { type: 'array', items: TEXT, description: 'Some of them.' },
    }),
    description:
      'Keys of the external bucket that cannot be held here and do not show, as they were last listed: objects without an ETag.',
  },
})

function answered(description: string, schema: object): object {
  return { 200: { description, ...schema } }
}

export const LIST_SCHEMA: object = {
  tags: TAGS,
  summary: 'List the attached buckets',
  response: answered('Attached buckets', record({ attachments: { type: 'array', items: ATTACHMENT } })),
}

export const ATTACH_SCHEMA: object = {
  tags: TAGS,
  summary: 'Attach an external bucket under a name of its own',
  description:
    'Its objects show at once, through every door; what is written here goes there under the same keys. The store is tried first, with an object that is removed again.',
  body: {
    type: 'object',
    additionalProperties: false,
    required: ['bucket', 'url'],
    properties: {
      bucket: NAME,
      url: PLACE,
      conflicts: { ...POLICY['conflicts'], default: DEFAULT_POLICY.conflicts },
      ttlMs: { ...POLICY['ttlMs'], default: DEFAULT_POLICY.ttlMs },
      listingTtlMs: { ...POLICY['listingTtlMs'], default: DEFAULT_POLICY.listingTtlMs },
      compareIntervalMs: { ...POLICY['compareIntervalMs'], default: DEFAULT_POLICY.compareIntervalMs },
      ack: {
        ...TEXT,
        enum: BUCKET_ACKS,
        description:
          'How safe a write is before it is acknowledged, unless it says so itself; persisted: the external bucket has it.',
      },
    },
  },
  response: { 201: { description: 'It is attached', ...ATTACHMENT } },
}

export const GET_SCHEMA: object = {
  tags: TAGS,
  summary: 'Say how an attached bucket does',
  params: PARAMS,
  response: answered('It is attached', ATTACHMENT),
}

export const CHANGE_SCHEMA: object = {
  tags: TAGS,
  summary: 'Change how an attached bucket is kept',
  params: PARAMS,
  body: { type: 'object', additionalProperties: false, minProperties: 1, properties: POLICY },
  response: answered('It is changed', ATTACHMENT),
}

export const DETACH_SCHEMA: object = {
  tags: TAGS,
  summary: 'Detach a bucket',
  description:
    'It takes no more writes, and what was written is carried out. Once all is there, what is here of it is forgotten; the external bucket stays as it is. If the time is up before, it answers with what is left, and the bucket takes writes again after some seconds, unless it is asked again.',
  params: PARAMS,
  querystring: {
    type: 'object',
    additionalProperties: false,
    properties: {
      force: { ...TEXT, enum: ['true', 'false'], description: 'Also when something is left, which is lost.' },
      waitSeconds: {
        ...TEXT,
        pattern: `^([0-9]|[1-4][0-9]|${WAIT_SECONDS_MAX})$`,
        description: `To ${WAIT_SECONDS_MAX}; ${DEFAULT_WAIT_SECONDS} by default.`,
      },
    },
  },
  response: answered(
    'It is detached, or not yet',
    record({
      detached: YES_OR_NO,
      forgotten: { ...YES_OR_NO, description: 'Nothing of it is here any more, and its name is free.' },
      keys: { ...COUNT, description: 'Changes that the external bucket does not know: left, or (when detached) lost.' },
      keysIsAtLeast: YES_OR_NO,
      conflicts: { ...COUNT, description: 'The same of conflicts.' },
      listed: {
        type: 'array',
        description: 'The first hundred of them.',
        items: record({
          key: TEXT,
          conflict: YES_OR_NO,
          cause: orNull(CAUSE, 'Why the last try failed; null: it did not.'),
        }),
      },
      paused: { ...YES_OR_NO, description: 'Then nothing is carried out, and this did not wait.' },
    }),
  ),
}

export const START_IMPORT_SCHEMA: object = {
  tags: TAGS,
  summary: 'List all of the external bucket now',
  description: 'In the background. What has been listed before is skipped; one that runs goes on.',
  params: PARAMS,
  body: {
    type: ['object', 'null'],
    additionalProperties: false,
    properties: { again: { ...YES_OR_NO, default: false, description: 'Also what has been listed before.' } },
  },
  response: { 202: { description: 'It runs', ...IMPORT } },
}

const LAST_IMPORT = record({ import: orNull(IMPORT, 'Null: there was none since the gateway was started.') })

export const GET_IMPORT_SCHEMA: object = {
  tags: TAGS,
  summary: 'Say how far the last import is',
  params: PARAMS,
  response: answered('The last one', LAST_IMPORT),
}

export const STOP_IMPORT_SCHEMA: object = {
  tags: TAGS,
  summary: 'Stop an import',
  description: 'What it has listed stays, and is skipped by the next one.',
  params: PARAMS,
  response: answered('None runs', LAST_IMPORT),
}

const OUTSIDE = orNull(record({ etag: TEXT, size: COUNT }), 'Null: nothing.')

export const CONFLICTS_SCHEMA: object = {
  tags: TAGS,
  summary: 'List keys that were changed here and outside',
  params: PARAMS,
  querystring: {
    type: 'object',
    additionalProperties: false,
    properties: {
      after: { ...TEXT, description: 'Keys after this one.' },
      limit: { ...TEXT, pattern: '^[1-9][0-9]{0,3}$', description: `To ${CONFLICTS_PAGE_MAX}, which is the default.` },
    },
  },
  response: answered(
    'Conflicts, by key',
    record({
      conflicts: {
        type: 'array',
        items: record({
          key: TEXT,
          since: TIME,
          outside: { ...OUTSIDE, description: 'What lay there when it was found.' },
          base: { ...OUTSIDE, description: 'What was expected there.' },
        }),
      },
      next: { ...TEXT_OR_NULL, description: 'To go on with as `after`; null: these are all.' },
    }),
  ),
}

export const RESOLVE_SCHEMA: object = {
  tags: TAGS,
  summary: 'Decide a conflict',
  params: PARAMS,
  body: {
    type: 'object',
    additionalProperties: false,
    required: ['key', 'keep'],
    properties: {
      key: { ...TEXT, minLength: 1 },
      keep: { ...TEXT, enum: KEEPS, description: 'both: theirs takes the key, ours another one.' },
    },
  },
  response: answered(
    'It is decided',
    record({
      keep: { ...TEXT, enum: KEEPS, description: 'Not both, if there was only one.' },
      as: { ...TEXT_OR_NULL, description: 'The key that ours has now, if both are kept.' },
    }),
  ),
}

export const NOTIFY_SCHEMA: object = {
  tags: TAGS,
  summary: 'Take notifications of changes in the external bucket',
  description:
    'S3 event messages, as they are or in an envelope of SNS, and those of EventBridge. Each says no more than that a key is to be looked at again; so they may come in any order, and more than once. A token that may write to the bucket suffices.',
  params: PARAMS,
  response: answered(
    'What was in it',
    record({
      taken: { ...COUNT, description: 'Events of keys of this bucket.' },
      ignored: { ...COUNT, description: 'Events of others.' },
      unread: { ...COUNT, description: 'What was no event.' },
    }),
  ),
}

const PAUSED = answered('As it is now', record({ paused: YES_OR_NO }))

export const PAUSE_SCHEMA: object = {
  tags: TAGS,
  summary: 'Carry out no more changes of attached buckets',
  description: 'What is on its way arrives. It ends with resume, or with the gateway.',
  response: PAUSED,
}

export const RESUME_SCHEMA: object = {
  tags: TAGS,
  summary: 'Carry out changes of attached buckets again',
  response: PAUSED,
}
