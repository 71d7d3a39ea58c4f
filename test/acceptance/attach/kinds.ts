import type { RemoteKind } from '../../write-behind/remote/remote-target.ts'

/** Stores that buckets are attached to: one that is not ours; a second Tidegate too in the long form (npm run attached). */
export const KINDS: readonly RemoteKind[] =
  process.env['ATTACHED_TESTS'] === 'long' ? ['external', 'tidegate'] : ['external']
