/** `tidegate flush drain`: asks the gateway again and again, for no request lasts as long as a drain may. */
import { onlyNames, parseArguments } from './arguments.ts'
import type { CliContext, ExitCode } from './command.ts'
import { connect, CONNECTION_OPTIONS } from './connection.ts'
import { bytesText, FLUSH_PATH, itemsText, type ShownItem } from './flush-text.ts'
import { durationMs } from './duration.ts'

interface ShownDrain {
  readonly drained: boolean
  readonly through: number
  readonly paused: boolean
  readonly leftItems: number
  readonly leftBytes: number
  readonly left: readonly ShownItem[]
  readonly namesLeft: boolean
}

/** What one request waits; the gateway takes no more than 50. */
const ASK_SECONDS_MAX = 30

export async function drainFlush(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, { ...CONNECTION_OPTIONS, timeout: { type: 'string' } })
  onlyNames(positionals)
  const timeoutMs = values.timeout === undefined ? Infinity : durationMs('--timeout', values.timeout)
  const gateway = connect(values, context.env)
  const deadlineMs = performance.now() + timeoutMs
  let through: number | undefined
  for (;;) {
    const leftMs = deadlineMs - performance.now()
    const waitSeconds = Math.max(0, Math.min(ASK_SECONDS_MAX, leftMs / 1000))
    const response = await gateway.send({
      method: 'POST',
      path: `${FLUSH_PATH}/drain`,
      json: { waitSeconds, ...(through === undefined ? {} : { through }) },
    })
    const drain = (await response.json()) as ShownDrain
    through = drain.through
    if (!drain.drained && !drain.paused && performance.now() < deadlineMs) continue
    context.stdout.write(values.json === true ? `${JSON.stringify(drain, undefined, 2)}\n` : drainText(drain))
    return drain.drained ? 0 : 1
  }
}

function drainText({ drained, paused, leftItems, leftBytes, left, namesLeft }: ShownDrain): string {
  if (drained) return 'all of it is in the remote store\n'
  if (leftItems === 0 && namesLeft)
    return 'all segments are in the remote store; metadata, and the small bodies in it, are not yet\n'
  const why = paused ? 'flushing is paused; ' : ''
  return `${why}${leftItems} segments with ${bytesText(leftBytes)} are not in the remote store\n\n${itemsText(left)}`
}
