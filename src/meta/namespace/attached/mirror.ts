/** What the mirror of attached buckets does with what was seen outside, with its context passed in. */
import { attach, attachments, change } from './attach.ts'
import { covered, uncover } from './coverage.ts'
import { coverage } from './coverage-list.ts'
import { forget } from './forget.ts'
import { mergeOne } from './merge-one.ts'
import { merge } from './merge.ts'
import type { MirrorContext } from './mirror-context.ts'
import { moves } from './moves.ts'
import { stepMove } from './step-move.ts'
import type { Scope } from './types.ts'

export interface Mirror {
  readonly attach: BoundMirror<typeof attach>
  readonly change: BoundMirror<typeof change>
  readonly attachments: BoundMirror<typeof attachments>
  readonly forget: BoundMirror<typeof forget>
  readonly covered: (bucketId: number, scope: Scope, from: string, sinceMs: number) => ReturnType<typeof covered>
  readonly coverage: (bucketId: number, after: string, limit: number) => ReturnType<typeof coverage>
  readonly merge: BoundMirror<typeof merge>
  readonly mergeOne: BoundMirror<typeof mergeOne>
  readonly uncover: BoundMirror<typeof uncover>
  readonly moves: BoundMirror<typeof moves>
  readonly stepMove: BoundMirror<typeof stepMove>
}

type BoundMirror<Operation> = Operation extends (context: MirrorContext, ...rest: infer Rest) => infer Result
  ? (...rest: Rest) => Result
  : never

export function createMirror(context: MirrorContext): Mirror {
  return {
    attach: (request) => attach(context, request),
    change: (bucket, attachment) => change(context, bucket, attachment),
    attachments: () => attachments(context),
    forget: (of) => forget(context, of),
    covered: (bucketId, scope, from, sinceMs) => covered(context, { bucketId, scope, from, sinceMs }),
    coverage: (bucketId, after, limit) => coverage(context, bucketId, { after, limit }),
    merge: (page) => merge(context, page),
    mergeOne: (seen) => mergeOne(context, seen),
    uncover: (bucketId, prefix) => uncover(context, bucketId, prefix),
    moves: (bucketId) => moves(context, bucketId),
    stepMove: (bucketId, id) => stepMove(context, bucketId, id),
  }
}
