/**
 * Whose a remote store is. The object `TIDEGATE` at its root names the namespace whose segments lie there and the data directory that may
 * change them, its holder. Two gateways on one prefix would take each other's segments for orphans; a node that was replaced by a restore
 * would delete what its successor needs. So:
 *
 *   claim      a fresh data directory on a store without a marker: the marker is made, never over another
 *   check      at each start, before anything is deleted, and every minute: still ours?
 *   takeOver   a restored data directory: the same namespace, a new holder; the old one finds itself fenced at its next check
 *
 * Where the store decides conditions, two that claim or take over at the same moment cannot both win. Elsewhere the marker is read back, and
 * the later one wins; the other is fenced. Between two checks a fenced holder may still add segments (their names are random: they are orphans),
 * but it removes nothing, since it checks right before.
 */
import { TidegateError } from '../common/errors.ts'
import { REMOTE_MARKER_NAME, type RemoteStore } from './remote/ports.ts'

export interface RemoteHolder {
  /** 32 hex digits each. */
  readonly namespace: string
  readonly holder: string
}

const FORMAT = 1
const MARKER_BYTES_MAX = 4096
const ID = /^[0-9a-f]{32}$/

/** Who holds the store; undefined: nobody. @throws Unavailable, AccessDenied; InvalidRequest for a marker that is none of ours */
export async function remoteHolder(remote: RemoteStore): Promise<RemoteHolder | undefined> {
  return (await readMarker(remote))?.holder
}

async function readMarker(remote: RemoteStore): Promise<{ holder: RemoteHolder; etag: string } | undefined> {
  const found = await remote.get(REMOTE_MARKER_NAME, MARKER_BYTES_MAX)
  if (!found) return undefined
  return { holder: decode(remote, found.bytes), etag: found.etag }
}

function decode(remote: RemoteStore, bytes: Buffer): RemoteHolder {
  const parsed = parseJson(bytes.toString('utf8')) as { format?: unknown; namespace?: unknown; holder?: unknown } | null
  const { format, namespace, holder } = parsed ?? {}
  if (typeof format === 'number' && format > FORMAT) {
    throw new TidegateError('InvalidRequest', `${remote.description} has format ${format}, of a newer Tidegate`)
  }
  const known = format === FORMAT && typeof namespace === 'string' && typeof holder === 'string'
  if (!known || !ID.test(namespace) || !ID.test(holder)) {
    throw new TidegateError('InvalidRequest', `${REMOTE_MARKER_NAME} in ${remote.description} is no marker of Tidegate`)
  }
  return { namespace, holder }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function encode(holder: RemoteHolder, nowMs: number): Buffer {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, ...holder, sinceMs: nowMs })}\n`)
}

/**
 * Makes the marker. Safe to repeat with the same ids, after a crash anywhere.
 * @throws InvalidRequest when the store is somebody's, or holds what looks like segments and has no marker
 */
export async function claimRemote(
  remote: RemoteStore,
  mine: RemoteHolder,
  options: {
    readonly nowMs: number
    /** Segments without a marker are this data directory's own, from before there were markers. */
    readonly unmarkedIsOurs: boolean
  },
): Promise<void> {
  const before = await readMarker(remote)
  if (before) return mustBe(remote, mine, before.holder)
  const [stranger] = options.unmarkedIsOurs ? [] : await remote.list('segments/', undefined, 1)
  if (stranger) {
    throw new TidegateError(
      'InvalidRequest',
      `${remote.description} holds segments and no marker, so whose they are is not known: use an empty prefix, or "tidegate rebuild"`,
    )
  }
  try {
    const { conditionalPut } = remote.capabilities
    await remote.put(REMOTE_MARKER_NAME, encode(mine, options.nowMs), conditionalPut ? { ifAbsent: true } : undefined)
  } catch (error) {
    // Ours, if an earlier attempt arrived and its answer did not.
    if (!(error instanceof TidegateError) || error.code !== 'PreconditionFailed') throw error
  }
  await checkRemote(remote, mine)
}

/** @throws InvalidRequest with `details.fenced` when somebody else holds it; Unavailable when nobody does, or it does not answer */
export async function checkRemote(remote: RemoteStore, mine: RemoteHolder): Promise<void> {
  mustBe(remote, mine, await remoteHolder(remote))
}

function mustBe(remote: RemoteStore, mine: RemoteHolder, found: RemoteHolder | undefined): void {
  if (found?.namespace === mine.namespace && found.holder === mine.holder) return
  // Without a marker nobody else is known to hold it; perhaps the bucket is being put back.
  const details = { fenced: found !== undefined }
  throw new TidegateError(found ? 'InvalidRequest' : 'Unavailable', reason(remote, mine, found), { details })
}

function reason(remote: RemoteStore, mine: RemoteHolder, found: RemoteHolder | undefined): string {
  const where = remote.description
  if (!found) return `${where} has no marker, and this data directory belongs to a store that has: is the URL right?`
  if (found.namespace !== mine.namespace) {
    return `${where} holds another namespace (${found.namespace}): use a prefix of its own, or "tidegate restore"`
  }
  return `${where} was taken over by a restored data directory: this one is no longer its holder and must not be used`
}

/**
 * Makes `holder` the one that may change the store, and fences who was. A store without a marker gets one.
 * @returns the namespace that is there, or `fallback` where there was none
 * @throws ConditionalRequestConflict when somebody else took it over at this very moment
 */
export async function takeOverRemote(
  remote: RemoteStore,
  holder: string,
  fallback: { readonly namespace: string; readonly nowMs: number },
): Promise<RemoteHolder> {
  const before = await readMarker(remote)
  const mine = { namespace: before?.holder.namespace ?? fallback.namespace, holder }
  if (before?.holder.holder === holder) return mine
  const condition = before ? ({ ifMatch: before.etag } as const) : ({ ifAbsent: true } as const)
  try {
    await remote.put(
      REMOTE_MARKER_NAME,
      encode(mine, fallback.nowMs),
      remote.capabilities.conditionalPut ? condition : undefined,
    )
  } catch (error) {
    if (!(error instanceof TidegateError) || error.code !== 'PreconditionFailed') throw error
  }
  const after = await remoteHolder(remote)
  if (after?.holder === holder) return mine
  throw new TidegateError(
    'ConditionalRequestConflict',
    `${remote.description} was taken over by somebody else meanwhile`,
  )
}
