/** Answers that a route has put into JSON itself. */
import type { FastifyReply, FastifyRequest } from 'fastify'

export function sendJson(request: FastifyRequest, reply: FastifyReply, text: string): FastifyReply {
  const body = Buffer.from(text)
  request.exchange.bytesOut += body.length
  return reply.type('application/json').send(body)
}

/** Bytes of a body that a parser has read, for the access log. */
export function countReceived(request: FastifyRequest): void {
  request.exchange.bytesIn += Number(request.headers['content-length'] ?? 0)
}
