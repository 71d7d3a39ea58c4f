/** `tidegate bucket detach`: asks the gateway again and again, for no request lasts as long as carrying out may. */
import { onlyNames, parseArguments } from './arguments.ts'
import { attachmentPath, countText, keyText } from './bucket-text.ts'
import type { CliContext, ExitCode } from './command.ts'
import { connect, CONNECTION_OPTIONS } from './connection.ts'
import { durationMs } from './duration.ts'
import { table } from './table.ts'

interface ShownDetach {
  readonly detached: boolean
  readonly forgotten: boolean
  readonly keys: number
  readonly keysIsAtLeast: boolean
  readonly conflicts: number
  readonly listed: readonly {
    readonly key: string
    readonly conflict: boolean
    readonly cause: { readonly code: string; readonly message: string } | null
  }[]
  readonly paused: boolean
}

const TIMEOUT_MS = 300_000
/** What one request waits; the gateway takes no more than 50. */
const ASK_SECONDS_MAX = 30

export async function detachBucket(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const options = { force: { type: 'boolean' }, timeout: { type: 'string' } } as const
  const { values, positionals } = parseArguments(argv, { ...CONNECTION_OPTIONS, ...options })
  const [bucket] = onlyNames(positionals, 'the name of the bucket')
  const timeoutMs = values.timeout === undefined ? TIMEOUT_MS : durationMs('--timeout', values.timeout)
  const gateway = connect(values, context.env)
  const deadlineMs = performance.now() + timeoutMs
  const ask = async (waitSeconds: number, force: boolean): Promise<ShownDetach> => {
    const path = `${attachmentPath(bucket)}?waitSeconds=${waitSeconds}&force=${force}`
    return (await (await gateway.send({ method: 'DELETE', path })).json()) as ShownDetach
  }
  for (;;) {
    const leftMs = Math.max(0, deadlineMs - performance.now())
    const shown = await ask(Math.min(ASK_SECONDS_MAX, Math.floor(leftMs / 1000)), false)
    // No time helps a conflict, or what is paused.
    const isHopeless = shown.paused || shown.keys === 0
    if (!shown.detached && !isHopeless && performance.now() < deadlineMs) continue
    const outcome = !shown.detached && values.force === true ? await ask(0, true) : shown
    context.stdout.write(
      values.json === true ? `${JSON.stringify(outcome, undefined, 2)}\n` : detachText(bucket, outcome),
    )
    return outcome.detached ? 0 : 1
  }
}

function detachText(bucket: string, shown: ShownDetach): string {
  const { detached, forgotten, keys, keysIsAtLeast, conflicts, listed, paused } = shown
  const isAll = keys + conflicts === 0
  const left = `${countText(keys, keysIsAtLeast)} changes and ${conflicts} conflicts`
  const rest = forgotten ? '' : '; its name is free once the rest of it here has been cleared away'
  const lines = detached
    ? [
        `${bucket} is detached${rest}\n`,
        ...(isAll ? [] : [`lost, since the external bucket does not have them: ${left}\n`]),
      ]
    : [
        `${bucket} stays attached: ${left} are not in the external bucket${paused ? ', and carrying out is paused' : ''}\n`,
      ]
  if (!isAll) {
    const rows = listed.map(({ key, conflict, cause }) => [
      keyText(key),
      conflict ? 'conflict' : cause === null ? 'waiting' : `${cause.code}: ${cause.message}`,
    ])
    lines.push('\n', table([['KEY', 'WHY'], ...rows]))
  }
  return lines.join('')
}
