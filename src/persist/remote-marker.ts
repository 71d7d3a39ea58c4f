/**
 * Whose a remote store is. The object `TIDEGATE` at its root names the namespace whose segments lie there and the data directory that may
 * change them, its holder. Two gateways on one prefix would take each other's segments for orphans; a node that was replaced by a restore
 * would delete what its successor needs. So:
 *
 *   claim      a fresh data directory on a store without a marker: the marker is made, never over another
 *   check      at each start, before anything is deleted, and every minute: still ours?
 *   takeOver   a restored data directory: the same namespace, a new holder; the old one finds itself fenced at its next check
 *
 *   {"format":1,"namespace":...,"holder":...,"sinceMs":...,"restored":[{"holder":...,"from":...,"backup":...,"sinceMs":...},...]}
 *
 * `restored` says of every holder that a restore made, newest first, what it began with: the newest names of the holder `from`, or those
 * of a backup. A holder that was lost before its own names made a state is restored as that, and what it acknowledged on top
 * (names/read-states.ts). A marker without the field, or with fewer holders than there were, is as good as it goes.
 *
 * Where the store decides conditions, two that claim or take over at the same moment cannot both win. Elsewhere the marker is read back, and
 * the later one wins; the other is fenced. Between two checks a fenced holder may still add segments (their names are random: they are orphans),
 * but it removes nothing, since it checks right before.
 */
import { TidegateError } from '../common/errors.ts'
import { isBackupId } from './names/manifest.ts'
import { REMOTE_MARKER_NAME, type RemoteStore } from './remote/ports.ts'

export interface RemoteHolder {
  /** 32 hex digits each. */
  readonly namespace: string
  readonly holder: string
}

/** What a holder that a restore made began with. */
export interface HolderOrigin {
  readonly holder: string
  /** The holder whose names were restored. */
  readonly from: string
  /** Those of this backup; undefined: the newest. */
  readonly backup: string | undefined
  /** When it took over. */
  readonly sinceMs: number
}

export interface RemoteHistory {
  /** Whose the store is; undefined: nobody's. */
  readonly holder: string | undefined
  /** Newest first. */
  readonly origins: readonly HolderOrigin[]
}

const FORMAT = 1
const MARKER_BYTES_MAX = 4096
/** So many fit a marker. */
const ORIGINS_MAX = 24
const ID = /^[0-9a-f]{32}$/

/** Who holds the store; undefined: nobody. @throws Unavailable, AccessDenied; InvalidRequest for a marker that is none of ours */
export async function remoteHolder(remote: RemoteStore): Promise<RemoteHolder | undefined> {
  return (await readMarker(remote))?.holder
}

/** Who holds it, and what those before were restored from. @throws as `remoteHolder` */
export async function remoteHistory(remote: RemoteStore): Promise<RemoteHistory> {
  const marker = await readMarker(remote)
  return { holder: marker?.holder.holder, origins: marker?.origins ?? [] }
}

interface Marker {
  readonly holder: RemoteHolder
  /** Since when. */
  readonly sinceMs: number
  readonly origins: readonly HolderOrigin[]
}

async function readMarker(remote: RemoteStore): Promise<(Marker & { readonly etag: string }) | undefined> {
  const found = await remote.get(REMOTE_MARKER_NAME, MARKER_BYTES_MAX)
  if (!found) return undefined
  return { ...decode(remote, found.bytes), etag: found.etag }
}

function decode(remote: RemoteStore, bytes: Buffer): Marker {
  const parsed = parseJson(bytes.toString('utf8')) as Record<string, unknown> | null
  const { format, namespace, holder, sinceMs, restored } = parsed ?? {}
  if (typeof format === 'number' && format > FORMAT) {
    throw new TidegateError('InvalidRequest', `${remote.description} has format ${format}, of a newer Tidegate`)
  }
  if (format !== FORMAT || !isId(namespace) || !isId(holder)) {
    throw new TidegateError('InvalidRequest', `${REMOTE_MARKER_NAME} in ${remote.description} is no marker of Tidegate`)
  }
  const origins = Array.isArray(restored) ? restored.flatMap((one: unknown) => originOf(one) ?? []) : []
  return { holder: { namespace, holder }, sinceMs: timeOf(sinceMs), origins }
}

function originOf(value: unknown): HolderOrigin | undefined {
  const { holder, from, backup, sinceMs } = (value ?? {}) as Record<string, unknown>
  if (!isId(holder) || !isId(from)) return undefined
  if (backup !== undefined && (typeof backup !== 'string' || !isBackupId(backup))) return undefined
  return { holder, from, backup, sinceMs: timeOf(sinceMs) }
}

function isId(value: unknown): value is string {
  return typeof value === 'string' && ID.test(value)
}

function timeOf(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : 0
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function encode({ holder, sinceMs, origins }: Marker): Buffer {
  const restored = origins.length > 0 ? origins.slice(0, ORIGINS_MAX) : undefined
  return Buffer.from(`${JSON.stringify({ format: FORMAT, ...holder, sinceMs, restored })}\n`)
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
    const { namespace, holder } = mine
    const marker = encode({ holder: { namespace, holder }, sinceMs: options.nowMs, origins: [] })
    await remote.put(REMOTE_MARKER_NAME, marker, conditionalPut ? { ifAbsent: true } : undefined)
  } catch (error) {
    // Ours, if an earlier attempt arrived and its answer did not.
    if (!(error instanceof TidegateError) || error.code !== 'PreconditionFailed') throw error
  }
  await checkRemote(remote, mine)
}

/** @throws InvalidRequest with `details.fenced` when somebody else holds it; Unavailable when nobody does, or it does not answer */
export async function checkRemote(remote: RemoteStore, mine: RemoteHolder): Promise<void> {
  await heldSince(remote, mine)
}

/** `checkRemote`, and since when it is ours, by the clock of who made the marker: ms since 1970; undefined where it does not say. */
export async function heldSince(remote: RemoteStore, mine: RemoteHolder): Promise<number | undefined> {
  const marker = await readMarker(remote)
  mustBe(remote, mine, marker?.holder)
  return marker?.sinceMs === 0 ? undefined : marker?.sinceMs
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
 * Makes `holder` the one that may change the store, and fences who was. A store without a marker gets one. Again with another origin: a restore
 * that was interrupted, and run again for another state.
 * @returns the namespace that is there, or `fallback` where there was none
 * @throws ConditionalRequestConflict when somebody else took it over at this very moment
 */
export async function takeOverRemote(
  remote: RemoteStore,
  holder: string,
  fallback: { readonly namespace: string; readonly nowMs: number },
  origin?: Pick<HolderOrigin, 'from' | 'backup'>,
): Promise<RemoteHolder> {
  const before = await readMarker(remote)
  const mine = { namespace: before?.holder.namespace ?? fallback.namespace, holder }
  const isOurs = before?.holder.holder === holder
  const noted = before?.origins.find((one) => one.holder === holder)
  if (isOurs && noted?.from === origin?.from && noted?.backup === origin?.backup) return mine
  const sinceMs = isOurs ? before.sinceMs : fallback.nowMs
  const others = before?.origins.filter((one) => one.holder !== holder) ?? []
  const own = origin ? [{ holder, from: origin.from, backup: origin.backup, sinceMs }] : []
  const condition = before ? ({ ifMatch: before.etag } as const) : ({ ifAbsent: true } as const)
  try {
    await remote.put(
      REMOTE_MARKER_NAME,
      encode({ holder: mine, sinceMs, origins: [...own, ...others] }),
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
