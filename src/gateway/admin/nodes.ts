/**
 * The gateways that share metadata, over HTTP: `GET /admin/v1/nodes`, `POST /admin/v1/nodes/drain` and `POST /admin/v1/nodes/remove`. For root, and for users whose policies allow
 * `tidegate:GetCluster` and `tidegate:ControlCluster`; no token may.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { AccessControl } from '../../store/access.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { PortPlugin } from '../http/port.ts'

export interface NodesPluginOptions {
  readonly nodes: NodeControl
  readonly access: AccessControl
}

/** What this asks of metadata that are shared. */
export interface NodeControl {
  /** Of this gateway. */
  readonly own: number
  list(): Promise<readonly { readonly number: number; readonly horizon: Revision }[]>
  /** Shuts the node out for good, and lets go what it kept. Undefined: there never was such a node. */
  remove(number: number): Promise<{ readonly files: number; readonly builds: number } | undefined>
  /**
   * Copies what lies on this gateway alone to another one, if that is not under way, and resolves with how far it is after so long at most. The others give it nothing new
   * from then on.
   */
  drain(waitMsMax: number): Promise<DrainedNode>
}

export interface DrainedNode {
  readonly segments: number
  readonly bytes: number
  /** Segments that no other node would take, and why not. */
  readonly left: number
  readonly lastError: string | undefined
  /** All were tried. */
  readonly done: boolean
}

const DRAIN_WAIT_MS_MAX = 20_000

export function createNodesPlugin(options: NodesPluginOptions): PortPlugin {
  return (app) => register(app, options)
}

function register(app: FastifyInstance, { nodes, access }: NodesPluginOptions): void {
  const admit = (request: FastifyRequest, action: 'tidegate:GetCluster' | 'tidegate:ControlCluster'): void => {
    const authenticated = must(request.authenticated, 'authentication of a route that is not open')
    const facts = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
    access.authorize(authenticated.principal, action, {}, facts)
  }

  app.get(
    '/admin/v1/nodes',
    { config: { operation: 'AdminListNodes' }, schema: LIST_SCHEMA },
    async (request, reply) => {
      admit(request, 'tidegate:GetCluster')
      return reply.send({ own: nodes.own, nodes: await nodes.list() })
    },
  )

  app.post(
    '/admin/v1/nodes/drain',
    { config: { operation: 'AdminDrainNode' }, schema: DRAIN_SCHEMA },
    async (request, reply) => {
      admit(request, 'tidegate:ControlCluster')
      return reply.send(await nodes.drain(DRAIN_WAIT_MS_MAX))
    },
  )

  app.post<{ Body: { readonly node: number } }>(
    '/admin/v1/nodes/remove',
    { config: { operation: 'AdminRemoveNode' }, schema: REMOVE_SCHEMA },
    async (request, reply) => {
      admit(request, 'tidegate:ControlCluster')
      const { node } = request.body
      if (node === nodes.own)
        throw new TidegateError(
          'InvalidArgument',
          `node ${node} is this gateway itself: ask another one, once it has ended`,
        )
      const removed = await nodes.remove(node)
      if (!removed) throw new TidegateError('InvalidArgument', `there is no node ${node}`)
      return reply.send(removed)
    },
  )
}

const TAGS = ['cluster']
const NUMBER = { type: 'integer', minimum: 0, description: 'As node.json in its data directory says.' }

const LIST_SCHEMA = {
  tags: TAGS,
  summary: 'List the gateways that share the metadata',
  response: {
    200: {
      description: 'All that were not removed, whether they run or not',
      type: 'object',
      required: ['own', 'nodes'],
      properties: {
        own: { ...NUMBER, description: 'The one that answers.' },
        nodes: {
          type: 'array',
          items: {
            type: 'object',
            required: ['number', 'horizon'],
            properties: {
              number: NUMBER,
              horizon: {
                type: 'number',
                description: 'Revision before which nothing is in use there. What was dropped later stays.',
              },
            },
          },
        },
      },
    },
  },
}

const DRAIN_SCHEMA = {
  tags: TAGS,
  summary: 'Copy what lies on this gateway alone to another one',
  description:
    'To be asked of a gateway that is to leave, before it is stopped. Answers how far it is after 20 seconds at most: ask again until it is done.',
  response: {
    200: {
      description: 'What was done',
      type: 'object',
      required: ['segments', 'bytes', 'left', 'done'],
      properties: {
        segments: { type: 'integer', description: 'Segments of which another node has a copy now.' },
        bytes: { type: 'integer' },
        left: { type: 'integer', description: 'Segments that no other node would take.' },
        lastError: { type: 'string' },
        done: { type: 'boolean', description: 'All were tried.' },
      },
    },
  },
}

const REMOVE_SCHEMA = {
  tags: TAGS,
  summary: 'Take out a gateway that will never be back',
  description:
    'It is shut out, also if it runs, and what it kept in the metadata is let go. What only it has of the bytes of objects is lost. Safe to repeat.',
  body: { type: 'object', additionalProperties: false, required: ['node'], properties: { node: NUMBER } },
  response: {
    200: {
      description: 'It is out',
      type: 'object',
      required: ['files', 'builds'],
      properties: {
        files: { type: 'integer', description: 'Without a name, which it had open.' },
        builds: { type: 'integer', description: 'Bodies that it was putting together.' },
      },
    },
  },
}
