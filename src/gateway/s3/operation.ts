import type { Call } from './call.ts'
import type { Level } from './target.ts'

export type Method = 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'

/**
 * One S3 operation. Where it is found (method, level, sub-resource) is data, so the routing table is built from the list
 * of operations and cannot disagree with it.
 */
export interface Operation {
  readonly name: string
  readonly method: Method
  readonly level: Level
  /** Query parameter that selects it; undefined for the plain resource. */
  readonly subresource?: string
  /** Selected by an x-amz-copy-source header. */
  readonly copy?: true
  /**
   * Headers that ask for features which are not built are refused for it (feature-headers.ts). Only writes and reads of
   * objects and the making of buckets have such headers.
   */
  readonly features?: true
  /**
   * Acts on x-tidegate-ack in full. Other writes change metadata only and are always synced before they are answered, which
   * is all that `memory` and `journal` ask; what asks for more is refused there (C36).
   */
  readonly ack?: true
  /** Authorises all it will do that can be known before the body is read; the default is to deny. @throws AccessDenied */
  access(call: Call): void
  /** Parses, does and answers. */
  run(call: Call): Promise<void>
}
