/** `tidegate bucket conflicts` and `tidegate bucket resolve`. */
import { onlyNames, parseArguments } from './arguments.ts'
import { attachmentPath, keyText } from './bucket-text.ts'
import { UsageError, type CliContext, type ExitCode } from './command.ts'
import { connect, CONNECTION_OPTIONS } from './connection.ts'
import { bytesText } from './flush-text.ts'
import { table } from './table.ts'

interface ShownConflict {
  readonly key: string
  readonly since: string
  readonly outside: ShownOutside
  readonly base: ShownOutside
}

type ShownOutside = { readonly etag: string; readonly size: number } | null

const KEEPS: readonly string[] = ['ours', 'theirs', 'both']

const COLUMNS: Readonly<Record<string, (conflict: ShownConflict) => string>> = {
  KEY: ({ key }) => keyText(key),
  SINCE: ({ since }) => since,
  'LIES THERE': ({ outside }) => outsideText(outside),
  'LAY THERE': ({ base }) => outsideText(base),
}

/** Page by page, so that a million of them take no more memory than a thousand. */
export async function listBucketConflicts(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  const [bucket] = onlyNames(positionals, 'the name of the bucket')
  const gateway = connect(values, context.env)
  let isFirst = true
  for (let after: string | null = ''; after !== null; isFirst = false) {
    const path = attachmentPath(bucket, `/conflicts?after=${encodeURIComponent(after)}`)
    const response = await gateway.send({ method: 'GET', path })
    const page = (await response.json()) as {
      readonly conflicts: readonly ShownConflict[]
      readonly next: string | null
    }
    if (values.json === true) for (const one of page.conflicts) context.stdout.write(`${JSON.stringify(one)}\n`)
    else if (isFirst && page.conflicts.length === 0) context.stdout.write('no conflicts\n')
    else context.stdout.write(conflictsText(page.conflicts, isFirst))
    after = page.next
  }
  return 0
}

function conflictsText(conflicts: readonly ShownConflict[], withHead: boolean): string {
  const rows = conflicts.map((conflict) => Object.values(COLUMNS).map((cell) => cell(conflict)))
  return table(withHead ? [Object.keys(COLUMNS), ...rows] : rows)
}

function outsideText(outside: ShownOutside): string {
  return outside === null ? 'nothing' : `${bytesText(outside.size)}, ${outside.etag}`
}

export async function resolveConflict(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, { ...CONNECTION_OPTIONS, keep: { type: 'string' } })
  const [bucket, key] = onlyNames(positionals, 'the name of the bucket', 'the key')
  const { keep } = values
  if (keep === undefined || !KEEPS.includes(keep))
    throw new UsageError(`bucket resolve wants --keep ${KEEPS.join('|')}`)
  const request = { method: 'POST', path: attachmentPath(bucket, '/conflicts/resolve'), json: { key, keep } }
  const response = await connect(values, context.env).send(request)
  const shown = (await response.json()) as { readonly keep: string; readonly as: string | null }
  if (values.json === true) context.stdout.write(`${JSON.stringify({ key, ...shown })}\n`)
  else if (shown.as !== null) context.stdout.write(`theirs is ${keyText(key)}, ours is ${keyText(shown.as)}\n`)
  else context.stdout.write(`${keyText(key)} is ${shown.keep}\n`)
  return 0
}
