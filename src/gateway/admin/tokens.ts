/**
 * Bearer tokens over HTTP: `POST`, `GET /admin/v1/tokens` and `DELETE /admin/v1/tokens/{id}`. A token's text is in the answer
 * that made it and nowhere else. A caller who comes with a token himself is denied: tokens do not make or manage tokens.
 */
import { must } from '../../common/assert.ts'
import { TOKEN_VERBS } from '../../store/access.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { AccessControl, Principal, TokenVerb, Tokens, TokenView } from '../../store/access.ts'
import type { PortPlugin } from '../http/port.ts'

export interface TokensPluginOptions {
  readonly tokens: Tokens
  readonly access: AccessControl
}

interface CreateBody {
  readonly name: string
  readonly buckets: readonly string[]
  readonly verbs: readonly TokenVerb[]
  readonly ttlSeconds?: number
}

interface TokenBody {
  readonly id: string
  readonly name: string
  readonly buckets: readonly string[]
  readonly verbs: readonly TokenVerb[]
  readonly created: string
  readonly expires: string | null
  readonly parent: { readonly id: string; readonly displayName: string }
}

export function createTokensPlugin(options: TokensPluginOptions): PortPlugin {
  return (app) => register(app, options)
}

function register(app: FastifyInstance, { tokens, access }: TokensPluginOptions): void {
  /** Who asks, once he is known to be allowed to. */
  const admitted = (request: FastifyRequest, action: string): Principal => {
    const authenticated = must(request.authenticated, 'authentication of a route that is not open')
    const facts = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
    access.authorize(authenticated.principal, action, {}, facts)
    return authenticated.principal
  }

  app.post<{ Body: CreateBody }>(
    '/admin/v1/tokens',
    { config: { operation: 'AdminCreateToken' }, schema: CREATE_SCHEMA },
    async (request, reply) => {
      const principal = admitted(request, 'tidegate:CreateToken')
      const { name, buckets, verbs, ttlSeconds } = request.body
      const ttlMs = ttlSeconds === undefined ? undefined : ttlSeconds * 1000
      const { token, text } = await tokens.create(principal, { name, buckets, verbs, ttlMs })
      return reply
        .code(201)
        .header('cache-control', 'no-store')
        .send({ ...tokenBody(token), token: text.reveal() })
    },
  )

  app.get(
    '/admin/v1/tokens',
    { config: { operation: 'AdminListTokens' }, schema: LIST_SCHEMA },
    async (request, reply) => {
      const found = await tokens.list(admitted(request, 'tidegate:ListTokens'))
      return reply.send({ tokens: found.map(tokenBody) })
    },
  )

  app.delete<{ Params: { id: string } }>(
    '/admin/v1/tokens/:id',
    { config: { operation: 'AdminRevokeToken' }, schema: REVOKE_SCHEMA },
    async (request, reply) => {
      await tokens.revoke(admitted(request, 'tidegate:RevokeToken'), request.params.id)
      return reply.code(204).send()
    },
  )
}

function tokenBody(token: TokenView): TokenBody {
  const { id, name, buckets, verbs, parent, createdMs, expiresMs } = token
  return {
    id,
    name,
    buckets,
    verbs,
    created: new Date(createdMs).toISOString(),
    expires: expiresMs === undefined ? null : new Date(expiresMs).toISOString(),
    parent: { id: parent.id, displayName: parent.displayName },
  }
}

const TAGS = ['tokens']

const BUCKET_PATTERNS = {
  type: 'array',
  items: { type: 'string' },
  description: 'Names of buckets, or patterns of them with * and ?.',
  examples: [['config', 'team-a-*']],
}
const VERBS = {
  type: 'array',
  items: { type: 'string', enum: TOKEN_VERBS },
  description:
    'read: values, their attributes, and whether keys exist. list: names of keys and buckets, and watching. write: values and attributes. delete: keys.',
}

const TOKEN_PROPERTIES = {
  id: { type: 'string', description: 'Names the token; no secret.' },
  name: { type: 'string' },
  buckets: BUCKET_PATTERNS,
  verbs: VERBS,
  created: { type: 'string', format: 'date-time' },
  expires: { type: ['string', 'null'], format: 'date-time', description: 'null: when it is revoked.' },
  parent: {
    type: 'object',
    description: 'Who made it, and for whom it speaks: it never may more than he.',
    properties: { id: { type: 'string' }, displayName: { type: 'string' } },
    required: ['id', 'displayName'],
  },
}
const TOKEN_REQUIRED = ['id', 'name', 'buckets', 'verbs', 'created', 'expires', 'parent']

const CREATE_SCHEMA = {
  tags: TAGS,
  summary: 'Make a bearer token',
  description:
    'The token speaks for the caller, within the buckets and verbs given. Its text is shown in this answer and never again.',
  body: {
    type: 'object',
    additionalProperties: false,
    required: ['name', 'buckets', 'verbs'],
    properties: {
      name: { type: 'string', description: 'For people: 1 to 64 printable characters.' },
      buckets: BUCKET_PATTERNS,
      verbs: VERBS,
      ttlSeconds: {
        type: 'integer',
        description: 'Seconds until it expires, 1 to 315,360,000. Left out: it is good until it is revoked.',
      },
    },
  },
  response: {
    201: {
      description: 'The token',
      type: 'object',
      properties: {
        ...TOKEN_PROPERTIES,
        token: { type: 'string', description: 'What clients send as Authorization: Bearer.' },
      },
      required: [...TOKEN_REQUIRED, 'token'],
    },
  },
}

const LIST_SCHEMA = {
  tags: TAGS,
  summary: 'List bearer tokens',
  description: "The caller's own; root's are all. The oldest first. Texts are kept nowhere, so they cannot be shown.",
  response: {
    200: {
      description: 'The tokens',
      type: 'object',
      properties: {
        tokens: {
          type: 'array',
          items: { type: 'object', properties: TOKEN_PROPERTIES, required: TOKEN_REQUIRED },
        },
      },
      required: ['tokens'],
    },
  },
}

const REVOKE_SCHEMA = {
  tags: TAGS,
  summary: 'Revoke a bearer token',
  description: 'Requests that begin from now on are refused; it stays so through a crash.',
  params: {
    type: 'object',
    properties: { id: { type: 'string' } },
    required: ['id'],
  },
  response: { 204: { description: 'It is revoked', type: 'null' } },
}
