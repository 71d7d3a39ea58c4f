/** Buckets: listing, making, removing, and whether one is there. */
import type { FastifyInstance } from 'fastify'
import type { BucketRecord } from '../../common/model.ts'
import { sendJson } from './answers.ts'
import { ackOf, authenticatedOf, authorize, type KvDoor } from './door.ts'
import { BUCKET_PARAMS, NO_PARAMETERS, type BucketParams } from './parameters.ts'
import { RequestAccess } from './request-access.ts'

const PAGE = 1000

const BUCKET = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    created: { type: 'string', format: 'date-time' },
    versioning: { type: 'string', enum: ['off', 'enabled', 'suspended'] },
    ack: { type: 'string', description: 'How safe a write is before it is acknowledged, unless it says so itself.' },
  },
} as const

const LIST_SCHEMA = {
  tags: ['kv'],
  summary: 'List the buckets that one may list',
  querystring: NO_PARAMETERS,
  response: {
    200: { type: 'object', description: 'By name.', properties: { buckets: { type: 'array', items: BUCKET } } },
  },
} as const

function schemaOf(summary: string, response: Readonly<Record<number, string>>): object {
  const described = Object.entries(response).map(([status, description]) => [status, { type: 'null', description }])
  const params = BUCKET_PARAMS
  return { tags: ['kv'], summary, params, querystring: NO_PARAMETERS, response: Object.fromEntries(described) }
}

export function registerBucketRoutes(app: FastifyInstance, door: KvDoor): void {
  const { buckets } = door.store
  app.get('/kv/v1', { config: { operation: 'KvListBuckets' }, schema: LIST_SCHEMA }, async (request, reply) => {
    const access = new RequestAccess(door.access, request)
    access.demand({ action: 's3:ListAllMyBuckets' })
    const visible = (await allBuckets(door)).filter(({ name: bucket }) =>
      access.allows({ action: 's3:ListBucket', bucket }),
    )
    return sendJson(request, reply, JSON.stringify({ buckets: visible.map(shown) }))
  })

  app.put<{ Params: BucketParams }>(
    '/kv/v1/:bucket',
    { config: { operation: 'KvCreateBucket' }, schema: schemaOf('Make a bucket', { 201: 'It is made.' }) },
    async (request, reply) => {
      const { bucket: name } = request.params
      authorize(door, request, { action: 's3:CreateBucket', resource: { bucket: name } })
      const owner = authenticatedOf(request).principal.id
      await buckets.create({ name, owner, region: door.region, ack: ackOf(request) })
      return reply
        .code(201)
        .header('location', `/kv/v1/${encodeURIComponent(name)}`)
        .send()
    },
  )

  app.delete<{ Params: BucketParams }>(
    '/kv/v1/:bucket',
    { config: { operation: 'KvDeleteBucket' }, schema: schemaOf('Remove an empty bucket', { 204: 'It is gone.' }) },
    async (request, reply) => {
      const { bucket } = request.params
      authorize(door, request, { action: 's3:DeleteBucket', resource: { bucket } })
      await buckets.delete(bucket)
      return reply.code(204).send()
    },
  )

  app.head<{ Params: BucketParams }>(
    '/kv/v1/:bucket',
    { config: { operation: 'KvHeadBucket' }, schema: schemaOf('Whether a bucket is there', { 200: 'It is.' }) },
    async (request, reply) => {
      const { bucket } = request.params
      authorize(door, request, { action: 's3:ListBucket', resource: { bucket } })
      await buckets.get(bucket)
      return reply.code(200).send()
    },
  )
}

async function allBuckets({ store }: KvDoor): Promise<BucketRecord[]> {
  const found: BucketRecord[] = []
  for (let after = ''; ;) {
    const page = await store.buckets.list({ prefix: '', after, limit: PAGE })
    found.push(...page)
    const last = page.at(-1)
    if (last === undefined || page.length < PAGE) return found
    after = last.name
  }
}

function shown({ name, createdMs, versioning, ack }: BucketRecord): Record<string, string> {
  return { name, created: new Date(createdMs).toISOString(), versioning, ack }
}
