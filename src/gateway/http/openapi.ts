/**
 * The description of everything that the port serves: OpenAPI 3.1 at `/openapi.json`, made from the schemas of the routes
 * themselves, and a page to read and try it at `/docs`. Both are open, as they hold nothing of the configuration; the page
 * takes nothing from other hosts.
 *
 * Register it before the plugins whose routes it is to describe. What Fastify's notation cannot say is put right here: the
 * rest of a path is a parameter with a name; every route but the open ones wants credentials and may answer with a problem; ids
 * of operations are those of the access log.
 */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifySchema, RouteOptions } from 'fastify'
import type { PortPlugin } from './port.ts'
import { PROBLEM_SCHEMA } from './problem-schema.ts'

declare module 'fastify' {
  interface FastifySchema {
    /**
     * Media types of a body, each with a JSON schema, of a route that reads its body itself: with better words for what is wrong
     * than a schema has, or because no parser does.
     */
    documentedBody?: Readonly<Record<string, { readonly schema: unknown }>>
  }
}

/** The page's own scripts and styles only. It sets styles on elements, and shows icons from data URLs. */
const DOCS_CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

const DESCRIPTION = `Three ways to say who you are: a bearer token (\`tidegate token create\`), HTTP Basic with an access key and its
secret, and AWS Signature Version 4 for the service \`s3\` (\`curl --aws-sigv4 aws:amz:us-east-1:s3\`), in headers or presigned.

Errors are problem details (RFC 9457) with a stable \`code\`. See docs/kv.md.`

export function createOpenApiPlugin({ version }: { readonly version: string }): PortPlugin {
  return async (app) => {
    await app.register(swagger, {
      exposeHeadRoutes: true,
      stripBasePath: false,
      openapi: {
        openapi: '3.1.1',
        info: { title: 'Tidegate', version, description: DESCRIPTION },
        servers: [{ url: '/' }],
        tags: [
          { name: 'values', description: 'Single values' },
          { name: 'kv', description: 'Buckets, and many keys at once' },
          { name: 'tokens', description: 'Bearer tokens' },
          { name: 'backups', description: 'Backups of metadata' },
          { name: 'operation', description: 'Running the gateway' },
        ],
        security: [{ bearer: [] }, { basic: [] }, { sigv4: [] }],
        components: {
          securitySchemes: {
            bearer: { type: 'http', scheme: 'bearer', description: 'A token made by `tidegate token create`.' },
            basic: { type: 'http', scheme: 'basic', description: 'An access key and its secret.' },
            sigv4: {
              type: 'apiKey',
              in: 'header',
              name: 'Authorization',
              description: 'AWS4-HMAC-SHA256, service `s3`; also as a presigned URL.',
            },
          },
        },
      },
      transform: ({ schema, url, route }) => describeRoute(schema, url, route),
      transformObject: (document) => completeDocument(document as { openapiObject: ApiDocument }) as never,
    })
    await app.register(docsPage)
    describedAt(app)
  }
}

function describedAt(app: FastifyInstance): void {
  let text: string | undefined
  const schema = { summary: 'This description', tags: ['operation'], response: { 200: { type: 'object' } } } as const
  app.get('/openapi.json', { config: { operation: 'OpenApi', open: true }, schema }, (_request, reply) => {
    // It cannot change once the port serves.
    text ??= JSON.stringify(app.swagger())
    return reply.type('application/json').send(text)
  })
}

/** In a scope of its own, so that its routes alone get what they need. */
async function docsPage(scope: FastifyInstance): Promise<void> {
  scope.addHook('onRoute', (route) => {
    route.config = { ...route.config, operation: 'Docs', open: true }
  })
  await scope.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: DOCS_CSP,
    uiConfig: { url: '/openapi.json', deepLinking: true, validatorUrl: null },
  })
}

const NO_SCHEMA: FastifySchema = {}

function describeRoute(
  given: FastifySchema | undefined,
  url: string,
  route: RouteOptions,
): { schema: FastifySchema; url: string } {
  const { documentedBody, ...schema } = given ?? NO_SCHEMA
  const described: FastifySchema = {
    ...schema,
    operationId: operationIdOf(route),
    ...(route.config?.open === true && { security: [] }),
    ...(documentedBody !== undefined && { body: { content: documentedBody } }),
  }
  if (!url.endsWith('/*')) return { schema: described, url }
  return { schema: { ...described, params: withKey(schema.params) }, url: `${url.slice(0, -1)}:key` }
}

/** `GET /-/healthz` -> `Health`; routes without a name get one from their path. */
function operationIdOf({ config, method, url }: RouteOptions): string {
  return config?.operation ?? `${String(method)} ${url}`
}

/** The rest of a path, which Fastify calls `*`. */
function withKey(params: unknown): unknown {
  const given = (params as { properties?: Record<string, unknown> } | undefined)?.properties ?? {}
  const { '*': rest, key, ...properties } = given
  const described = key ?? rest ?? { type: 'string', description: 'The key, which may hold slashes.' }
  return { type: 'object', properties: { ...properties, key: described } }
}

export interface ApiOperation {
  operationId?: string
  security?: readonly unknown[]
  responses?: Record<string, unknown>
  [member: string]: unknown
}

export interface ApiDocument {
  readonly paths: Record<string, Record<string, ApiOperation>>
  readonly components: { schemas?: Record<string, unknown> }
  [member: string]: unknown
}

const PROBLEM_RESPONSE = {
  description: 'A problem, with a stable `code`.',
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
}

/** Ids are made unique, and every operation gets the answers that all of them have in common. */
function completeDocument({ openapiObject }: { openapiObject: ApiDocument }): ApiDocument {
  const used = new Set<string>()
  const paths: ApiDocument['paths'] = {}
  for (const [path, item] of Object.entries(openapiObject.paths)) {
    paths[path] = {}
    for (const [method, operation] of Object.entries(item)) {
      const { operationId = '' } = operation
      const unique = used.has(operationId) ? `${operationId}-${method}-${used.size}` : operationId
      used.add(unique)
      const responses = { ...operation.responses, default: PROBLEM_RESPONSE }
      paths[path][method] = { ...operation, operationId: unique, responses }
    }
  }
  const schemas = { ...openapiObject.components.schemas, Problem: PROBLEM_SCHEMA }
  return { ...openapiObject, paths, components: { ...openapiObject.components, schemas } }
}
