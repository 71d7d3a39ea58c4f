/**
 * Mounts of the running gateway: `GET`, `POST /admin/v1/mounts` and `DELETE /admin/v1/mounts?directory=DIR`. A mount shows
 * every bucket to who may read the machine's file system and acts as the root user, so it is for the root user himself: policies
 * cannot give it to others, and no token speaks for him here.
 */
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { PortPlugin } from '../http/port.ts'

export interface Mounts {
  list(): readonly { readonly mountPoint: string }[]
  /** Resolves when it serves. @throws InvalidArgument for the directory, InvalidRequest when there are too many, Unavailable */
  mount(directory: string): Promise<{ readonly mountPoint: string }>
  /** @throws InvalidArgument when it is none of this gateway's; Unavailable when it is in use, unless `lazy` */
  unmount(directory: string, options: { readonly lazy: boolean }): Promise<void>
}

export function createMountsPlugin(mounts: Mounts): PortPlugin {
  return (app) => register(app, mounts)
}

function register(app: FastifyInstance, mounts: Mounts): void {
  app.get('/admin/v1/mounts', { config: { operation: 'AdminListMounts' }, schema: LIST_SCHEMA }, (request, reply) => {
    demandRoot(request)
    return reply.send({ mounts: mounts.list().map(({ mountPoint }) => ({ directory: mountPoint })) })
  })

  app.post<{ Body: { directory: string } }>(
    '/admin/v1/mounts',
    { config: { operation: 'AdminMount' }, schema: MOUNT_SCHEMA },
    async (request, reply) => {
      demandRoot(request)
      const { mountPoint } = await mounts.mount(checked(request.body.directory))
      return reply.code(201).send({ directory: mountPoint })
    },
  )

  app.delete<{ Querystring: { directory: string; lazy?: 'true' | 'false' } }>(
    '/admin/v1/mounts',
    { config: { operation: 'AdminUnmount' }, schema: UNMOUNT_SCHEMA },
    async (request, reply) => {
      demandRoot(request)
      const { directory, lazy } = request.query
      await mounts.unmount(checked(directory), { lazy: lazy === 'true' })
      return reply.code(204).send()
    },
  )
}

/** @throws AccessDenied */
function demandRoot(request: FastifyRequest): void {
  const { principal } = must(request.authenticated, 'authentication of a route that is not open')
  if (principal.kind !== 'root' || principal.token !== undefined) {
    throw new TidegateError('AccessDenied', 'mounts are for the root user of the gateway, with his access key')
  }
}

/** The gateway's own working directory is nobody's business. @throws InvalidArgument */
function checked(directory: string): string {
  if (!directory.startsWith('/') || directory.includes('\0')) {
    throw new TidegateError('InvalidArgument', `${JSON.stringify(directory)} is no absolute path`)
  }
  return directory
}

const TAGS = ['mounts']

const DIRECTORY = {
  type: 'string',
  minLength: 1,
  maxLength: 4096,
  description: 'Absolute path on the machine of the gateway.',
  examples: ['/mnt/tide'],
}
const MOUNT = { type: 'object', properties: { directory: DIRECTORY }, required: ['directory'] }

const LIST_SCHEMA = {
  tags: TAGS,
  summary: 'List the mounts of this gateway',
  response: {
    200: {
      description: 'The mounts',
      type: 'object',
      properties: { mounts: { type: 'array', items: MOUNT } },
      required: ['mounts'],
    },
  },
}

const MOUNT_SCHEMA = {
  tags: TAGS,
  summary: 'Mount the namespace on a directory',
  description:
    'For the root user only. The directory must exist and be empty. The mount ends with the gateway and does not come back with it.',
  body: { ...MOUNT, additionalProperties: false },
  response: { 201: { description: 'It serves', ...MOUNT } },
}

const UNMOUNT_SCHEMA = {
  tags: TAGS,
  summary: 'Take a mount away',
  description: 'For the root user only.',
  querystring: {
    type: 'object',
    additionalProperties: false,
    required: ['directory'],
    properties: {
      directory: DIRECTORY,
      lazy: {
        type: 'string',
        enum: ['true', 'false'],
        description: 'Also while it is in use: who has files open may finish.',
      },
    },
  },
  response: { 204: { description: 'It is gone, and what was written through it is published', type: 'null' } },
}
