/** Pages of an external bucket, taken over into the mirror: what import.ts and compare.ts do with ranges of keys. */
import type { Clock } from '../common/clock.ts'
import type { Revision } from '../common/ids.ts'
import type { Attached } from './attached.ts'
import { END, inByteOrder, reaches } from './key-order.ts'
import type { AttachedNames, ExternalPage, Scope } from './ports.ts'

export interface RangeListingParts {
  readonly names: Pick<AttachedNames, 'merge' | 'revision'>
  readonly clock: Clock
}

export interface AskedPage {
  readonly scope: Scope
  /** Everything after this key was asked for. */
  readonly after: string
  readonly askedAt: Revision
  readonly askedAtMs: number
  readonly page: ExternalPage
}

const PAGE_KEYS = 1000

export async function askPage(
  { names, clock }: RangeListingParts,
  { external }: Attached,
  asked: {
    readonly scope: Scope
    readonly after: string
    readonly limit?: number
    readonly signal: AbortSignal
  },
): Promise<AskedPage> {
  const { scope, after, limit = PAGE_KEYS, signal } = asked
  // Before the request: what is changed here while it is under way is newer.
  const [askedAt, askedAtMs] = [names.revision(), clock.nowMs()]
  const isDeep = scope.kind === 'deep'
  const prefix = isDeep ? '' : scope.directory
  const page = await external.list({ prefix, after, delimiter: isDeep ? '' : '/', limit, signal })
  return { scope, after, askedAt, askedAtMs, page }
}

/** Takes over what a page tells of the range that ends with `through`. Resolves with up to where, and with how many keys the mirror changed. */
export async function mergePage(
  { names }: RangeListingParts,
  { record: { bucketId } }: Attached,
  asked: AskedPage,
  through: string,
): Promise<{ readonly through: string; readonly changed: number; readonly keys: number }> {
  const { scope, after, askedAt, askedAtMs, page } = asked
  const isBeyond = page.next === undefined || inByteOrder(page.next, through) >= 0
  const end = isBeyond ? through : (page.next ?? through)
  const isTold = (name: string): boolean => inByteOrder(name, after) > 0 && reaches(end, name)
  const objects = told(page.objects, ({ key }) => isTold(key))
  const prefixes = told(page.prefixes, isTold)
  const { value: changed } = await names.merge({
    bucketId,
    scope,
    prefix: scope.kind === 'deep' ? '' : scope.directory,
    after,
    through: isWhole(scope, end) ? undefined : end,
    objects,
    prefixes,
    askedAt,
    askedAtMs,
  })
  return { through: end, changed, keys: objects.length }
}

/** They are in order: if the first and the last of them are told, so are all. */
function told<T>(names: readonly T[], isTold: (name: T) => boolean): readonly T[] {
  const [first, last] = [names[0], names.at(-1)]
  if (first === undefined || last === undefined || (isTold(first) && isTold(last))) return names
  return names.filter(isTold)
}

function isWhole(scope: Scope, through: string): boolean {
  return through === (scope.kind === 'deep' ? '' : scope.directory) + END || through === END
}
