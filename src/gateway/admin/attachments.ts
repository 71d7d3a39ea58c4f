/**
 * Attached buckets over HTTP: `/admin/v1/attachments`, one below it for each bucket, its import, its conflicts, and where notifications of changes outside
 * arrive; `/admin/v1/write-back` pauses carrying out. For root, and for users whose policies allow the action of each route on the bucket; tokens may
 * only notify.
 *
 * Who attaches a bucket has the gateway talk to a place that he names, with its credentials: `tidegate:AttachBucket` is for who runs the gateway.
 */
import { must } from '../../common/assert.ts'
import type { AckLevel } from '../../common/model.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import { jsonBodyParser } from '../http/json-body.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { AccessControl } from '../../store/access.ts'
import type { PortContext, PortPlugin } from '../http/port.ts'
import {
  ATTACH_SCHEMA,
  CHANGE_SCHEMA,
  CONFLICTS_PAGE_MAX,
  CONFLICTS_SCHEMA,
  DEFAULT_POLICY,
  DEFAULT_WAIT_SECONDS,
  DETACH_SCHEMA,
  GET_IMPORT_SCHEMA,
  GET_SCHEMA,
  LIST_SCHEMA,
  NOTIFY_SCHEMA,
  PAUSE_SCHEMA,
  RESOLVE_SCHEMA,
  RESUME_SCHEMA,
  START_IMPORT_SCHEMA,
  STOP_IMPORT_SCHEMA,
} from './attachment-schemas.ts'
import {
  attachmentBody,
  conflictBody,
  detachBody,
  importBody,
  type AttachmentPolicy,
  type AttachmentsControl,
  type Keep,
} from './attachment-views.ts'

export interface AttachmentsPluginOptions {
  readonly attachments: AttachmentsControl
  readonly access: AccessControl
  readonly defaultAck: AckLevel
}

type AttachmentAction =
  | 'AttachBucket'
  | 'ChangeAttachment'
  | 'ControlWriteBack'
  | 'DetachBucket'
  | 'GetAttachment'
  | 'ImportAttachment'
  | 'ListAttachments'
  | 'ListConflicts'
  | 'NotifyAttachment'
  | 'ResolveConflict'

type Admit = (request: FastifyRequest, action: AttachmentAction, bucket?: string) => AttachmentsControl

interface OfBucket {
  readonly Params: { readonly bucket: string }
}

interface AttachBody extends Partial<AttachmentPolicy> {
  readonly bucket: string
  readonly url: string
  readonly ack?: AckLevel
}

const ATTACHMENTS = '/admin/v1/attachments'
const BUCKET = `${ATTACHMENTS}/:bucket`
/** Of a message; SNS and SQS send up to 256 KiB, EventBridge one event. */
const MESSAGE_BYTES_MAX = 1024 * 1024
const MESSAGE_IDLE_MS_MAX = 30_000

export function createAttachmentsPlugin(options: AttachmentsPluginOptions): PortPlugin {
  return async (app, port) => {
    const { attachments, access } = options
    const admit: Admit = (request, action, bucket) => {
      const authenticated = must(request.authenticated, 'authentication of a route that is not open')
      const facts = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
      access.authorize(authenticated.principal, `tidegate:${action}`, { bucket }, facts)
      return attachments
    }
    registerAttachments(app, admit, options)
    registerImports(app, admit)
    registerConflicts(app, admit)
    registerWriteBack(app, admit)
    // Apart, since only they read another type of body.
    await app.register((scope, _options, done) => {
      registerEvents(scope, admit, port)
      done()
    })
  }
}

function registerAttachments(
  app: FastifyInstance,
  admit: Admit,
  { defaultAck }: { readonly defaultAck: AckLevel },
): void {
  app.get(
    ATTACHMENTS,
    { config: { operation: 'AdminListAttachments' }, schema: LIST_SCHEMA },
    async (request, reply) => {
      const views = await admit(request, 'ListAttachments').list()
      return reply.send({ attachments: views.map(attachmentBody) })
    },
  )

  app.post<{ Body: AttachBody }>(
    ATTACHMENTS,
    { config: { operation: 'AdminAttachBucket' }, schema: ATTACH_SCHEMA },
    async (request, reply) => {
      const { bucket, url, ack = defaultAck, ...policy } = request.body
      const control = admit(request, 'AttachBucket', bucket)
      const owner = must(request.authenticated, 'authentication').principal.id
      const view = await control.attach({ ...DEFAULT_POLICY, ...policy, bucket, url, ack, owner })
      return reply.code(201).send(attachmentBody(view))
    },
  )

  app.get<OfBucket>(
    BUCKET,
    { config: { operation: 'AdminGetAttachment' }, schema: GET_SCHEMA },
    async (request, reply) => {
      const { bucket } = request.params
      return reply.send(attachmentBody(await admit(request, 'GetAttachment', bucket).get(bucket)))
    },
  )

  app.patch<OfBucket & { Body: Partial<AttachmentPolicy> }>(
    BUCKET,
    { config: { operation: 'AdminChangeAttachment' }, schema: CHANGE_SCHEMA },
    async (request, reply) => {
      const { bucket } = request.params
      return reply.send(attachmentBody(await admit(request, 'ChangeAttachment', bucket).change(bucket, request.body)))
    },
  )

  app.delete<OfBucket & { Querystring: { force?: 'true' | 'false'; waitSeconds?: string } }>(
    BUCKET,
    { config: { operation: 'AdminDetachBucket' }, schema: DETACH_SCHEMA },
    async (request, reply) => {
      const { bucket } = request.params
      const { force, waitSeconds = DEFAULT_WAIT_SECONDS } = request.query
      const control = admit(request, 'DetachBucket', bucket)
      const waitMsMax = Number(waitSeconds) * 1000
      return reply.send(detachBody(await control.detach({ bucket, force: force === 'true', waitMsMax })))
    },
  )
}

function registerImports(app: FastifyInstance, admit: Admit): void {
  const path = `${BUCKET}/import`
  app.post<OfBucket & { Body: { again?: boolean } | null }>(
    path,
    { config: { operation: 'AdminStartImport' }, schema: START_IMPORT_SCHEMA },
    (request, reply) => {
      const { bucket } = request.params
      const view = admit(request, 'ImportAttachment', bucket).startImport(bucket, {
        again: request.body?.again === true,
      })
      return reply.code(202).send(importBody(view))
    },
  )

  app.get<OfBucket>(path, { config: { operation: 'AdminGetImport' }, schema: GET_IMPORT_SCHEMA }, (request, reply) => {
    const { bucket } = request.params
    const view = admit(request, 'GetAttachment', bucket).importing(bucket)
    return reply.send({ import: view ? importBody(view) : null })
  })

  app.delete<OfBucket>(
    path,
    { config: { operation: 'AdminStopImport' }, schema: STOP_IMPORT_SCHEMA },
    async (request, reply) => {
      const { bucket } = request.params
      const view = await admit(request, 'ImportAttachment', bucket).cancelImport(bucket)
      return reply.send({ import: view ? importBody(view) : null })
    },
  )
}

function registerConflicts(app: FastifyInstance, admit: Admit): void {
  app.get<OfBucket & { Querystring: { after?: string; limit?: string } }>(
    `${BUCKET}/conflicts`,
    { config: { operation: 'AdminListConflicts' }, schema: CONFLICTS_SCHEMA },
    async (request, reply) => {
      const { bucket } = request.params
      const { after = '', limit } = request.query
      const control = admit(request, 'ListConflicts', bucket)
      const most = Math.min(CONFLICTS_PAGE_MAX, Number(limit ?? CONFLICTS_PAGE_MAX))
      const { conflicts, next } = await control.conflicts(bucket, { after, limit: most })
      return reply.send({ conflicts: conflicts.map(conflictBody), next: next ?? null })
    },
  )

  app.post<OfBucket & { Body: { key: string; keep: Keep } }>(
    `${BUCKET}/conflicts/resolve`,
    { config: { operation: 'AdminResolveConflict' }, schema: RESOLVE_SCHEMA },
    async (request, reply) => {
      const { bucket } = request.params
      const { keep, as } = await admit(request, 'ResolveConflict', bucket).resolve(bucket, request.body)
      return reply.send({ keep, as: as ?? null })
    },
  )
}

function registerWriteBack(app: FastifyInstance, admit: Admit): void {
  app.post(
    '/admin/v1/write-back/pause',
    { config: { operation: 'AdminPauseWriteBack' }, schema: PAUSE_SCHEMA },
    (request, reply) => {
      const control = admit(request, 'ControlWriteBack')
      control.pause()
      return reply.send({ paused: control.paused })
    },
  )

  app.post(
    '/admin/v1/write-back/resume',
    { config: { operation: 'AdminResumeWriteBack' }, schema: RESUME_SCHEMA },
    (request, reply) => {
      const control = admit(request, 'ControlWriteBack')
      control.resume()
      return reply.send({ paused: control.paused })
    },
  )
}

/** SNS says that its JSON is plain text. */
function registerEvents(app: FastifyInstance, admit: Admit, { memory }: PortContext): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('text/plain', jsonBodyParser({ parse, memory, idleMsMax: MESSAGE_IDLE_MS_MAX }))
  app.post<OfBucket>(
    `${BUCKET}/events`,
    { config: { operation: 'AdminNotifyAttachment' }, schema: NOTIFY_SCHEMA, bodyLimit: MESSAGE_BYTES_MAX },
    (request, reply) => {
      const { bucket } = request.params
      return reply.send(admit(request, 'NotifyAttachment', bucket).notify(bucket, request.body))
    },
  )
}
