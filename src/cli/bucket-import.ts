/**
 * `tidegate bucket import`: starts an import in the gateway and shows how far it is: a bar on a terminal, lines elsewhere. Whoever ends the command ends
 * only that; the import goes on, and the same command shows it again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { onlyNames, parseArguments } from './arguments.ts'
import { attachmentPath, importText, type ShownImport } from './bucket-text.ts'
import { UsageError, type CliContext, type ExitCode } from './command.ts'
import { connect, CONNECTION_OPTIONS, type Connection } from './connection.ts'

const LOOK_MS = 500
/** Where there is no terminal, a line so often. */
const LINE_MS = 10_000
const BAR_CELLS = 30

export async function importBucket(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, {
    ...CONNECTION_OPTIONS,
    again: { type: 'boolean' },
    detach: { type: 'boolean' },
    stop: { type: 'boolean' },
  })
  const [bucket] = onlyNames(positionals, 'the name of the bucket')
  const { again = false, detach = false, stop = false, json = false } = values
  if (stop && (again || detach)) throw new UsageError('--stop goes with no other')
  const gateway = connect(values, context.env)
  const path = attachmentPath(bucket, '/import')
  if (stop) return finish(context, json, await last(gateway, 'DELETE', path))
  const response = await gateway.send({ method: 'POST', path, json: { again } })
  const begun = (await response.json()) as ShownImport
  if (detach) return finish(context, json, begun)
  const progress = json ? undefined : progressOf(context)
  for (let shown: ShownImport | undefined = begun; ; shown = await last(gateway, 'GET', path)) {
    if (shown?.state !== 'running') {
      progress?.end()
      return finish(context, json, shown)
    }
    progress?.show(shown)
    await sleep(LOOK_MS)
  }
}

async function last(gateway: Connection, method: 'GET' | 'DELETE', path: string): Promise<ShownImport | undefined> {
  const response = await gateway.send({ method, path })
  return ((await response.json()) as { readonly import: ShownImport | null }).import ?? undefined
}

function finish(context: CliContext, json: boolean, shown: ShownImport | undefined): ExitCode {
  const text = shown === undefined ? 'none since the gateway was started' : importText(shown)
  context.stdout.write(json ? `${JSON.stringify(shown ?? null, undefined, 2)}\n` : `${text}\n`)
  return shown?.state === 'failed' ? 1 : 0
}

interface Progress {
  show(shown: ShownImport): void
  end(): void
}

/** On stderr, so that the outcome alone is on stdout. */
function progressOf({ stderr }: CliContext): Progress {
  return stderr.isTTY === true ? bar(stderr) : lines(stderr)
}

function bar(stderr: CliContext['stderr']): Progress {
  stderr.write('Ctrl-C ends this showing; the import goes on in the gateway ("--stop" stops it)\n')
  return {
    show(shown) {
      const full = Math.round(Math.min(1, shown.share) * BAR_CELLS)
      const cells = '#'.repeat(full).padEnd(BAR_CELLS, '.')
      stderr.write(`\r[${cells}] ${runningText(shown)}\u001B[K`)
    },
    end() {
      stderr.write('\r\u001B[K')
    },
  }
}

function lines(stderr: CliContext['stderr']): Progress {
  let nextMs = 0
  return {
    show(shown) {
      if (performance.now() < nextMs) return
      nextMs = performance.now() + LINE_MS
      stderr.write(`${runningText(shown)}\n`)
    },
    end() {},
  }
}

function runningText({ keys, keysPerSecond, rangesLeft, share, problem }: ShownImport): string {
  const held = problem === null ? '' : `; held up: ${problem}`
  return `about ${Math.floor(share * 100)} %, ${keys} keys, ${keysPerSecond} keys/s, ${rangesLeft} ranges left${held}`
}
