/** `/metrics`: open to this machine; from anywhere else it wants credentials of a user, a token does not do (SECURITY-LESSONS 5.2, 13). */
import { TidegateError } from '../../common/errors.ts'
import { isLoopbackPeer } from '../http/loopback.ts'
import { rawRequest, type PortAuthenticate, type PortPlugin } from '../http/port.ts'
import { PROMETHEUS_CONTENT_TYPE, prometheusText } from './prometheus.ts'
import type { FastifyRequest } from 'fastify'
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'

export interface MetricsOptions {
  readonly collect: () => Promise<ResourceMetrics>
  readonly authenticate: PortAuthenticate
}

export function createMetricsPlugin(options: MetricsOptions): PortPlugin {
  return (app) => {
    const schema = {
      summary: 'Metrics in the Prometheus text format',
      tags: ['operation'],
      response: { 200: { type: 'string' } },
    }
    // Open as a route: whether credentials are wanted depends on the peer.
    app.get('/metrics', { config: { operation: 'Metrics', open: true }, schema }, async (request, reply) => {
      if (!isLoopbackPeer(request.raw)) await demandUser(options.authenticate, request)
      return reply.type(PROMETHEUS_CONTENT_TYPE).send(prometheusText(await options.collect()))
    })
  }
}

async function demandUser(authenticate: PortAuthenticate, request: FastifyRequest): Promise<void> {
  const { principal } = await authenticate(rawRequest(request.raw))
  request.exchange.principalId = principal.id
  if (principal.kind === 'anonymous' || principal.token !== undefined) {
    throw new TidegateError('AccessDenied', 'metrics want the access key of a user and its secret')
  }
}
