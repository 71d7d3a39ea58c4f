/** Problem details (problem.ts) as JSON schema. */
import { ERROR_CODES } from '../../common/errors.ts'

export const PROBLEM_SCHEMA = {
  type: 'object',
  description: 'Problem details (RFC 9457). The values at fault are further members.',
  required: ['type', 'title', 'status', 'code', 'detail', 'requestId'],
  properties: {
    type: { type: 'string', examples: ['urn:tidegate:error:NoSuchKey'] },
    title: { type: 'string' },
    status: { type: 'integer' },
    code: { type: 'string', description: `Stable. Unauthenticated, NotFound, or one of: ${ERROR_CODES.join(', ')}.` },
    detail: { type: 'string', description: 'For people.' },
    requestId: { type: 'string' },
  },
  additionalProperties: true,
} as const
