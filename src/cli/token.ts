import { TOKEN_VERBS } from '../store/access.ts'
import { onlyNames, parseArguments } from './arguments.ts'
import { UsageError } from './command.ts'
import { connect, CONNECTION_HELP, CONNECTION_OPTIONS } from './connection.ts'
import { durationMs } from './duration.ts'
import { table } from './table.ts'
import type { CliContext, Command } from './command.ts'

/** As the admin API shows a token (gateway/admin/tokens.ts). */
interface ShownToken {
  readonly id: string
  readonly name: string
  readonly buckets: readonly string[]
  readonly verbs: readonly string[]
  readonly created: string
  readonly expires: string | null
  readonly parent: { readonly displayName: string }
}

const TOKENS_PATH = '/admin/v1/tokens'
/** The least that is of any use. */
const DEFAULT_VERBS = ['read', 'list']

const ACTIONS: Readonly<Record<string, (argv: readonly string[], context: CliContext) => Promise<void>>> = {
  create,
  ls,
  revoke,
}

export const tokenCommand: Command = {
  name: 'token',
  usage: 'create --name NAME [OPTIONS] | ls | revoke ID',
  summary: 'make, list and revoke bearer tokens',
  details: () =>
    `create --name NAME   makes a token that speaks for you and prints its text, which is shown only this once
  --bucket PATTERN   a bucket it is good for, or a pattern with * and ?; may be repeated (default *)
  --verb VERB        what it may do: ${TOKEN_VERBS.join(', ')}; may be repeated (default ${DEFAULT_VERBS.join(' and ')})
  --ttl TIME         when it expires, as 12h or 30d (default: when it is revoked)
ls                   lists your tokens, or all of them as root
revoke ID            ends a token at once

${CONNECTION_HELP}`,
  async run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined)
      throw new UsageError(name === '' ? 'token wants create, ls or revoke' : `token knows no ${name}`)
    await action(argv, context)
    return 0
  },
}

async function create(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, {
    ...CONNECTION_OPTIONS,
    name: { type: 'string' },
    bucket: { type: 'string', multiple: true },
    verb: { type: 'string', multiple: true },
    ttl: { type: 'string' },
  })
  onlyNames(positionals)
  if (values.name === undefined) throw new UsageError('token create wants --name, to tell tokens apart')
  const json = {
    name: values.name,
    buckets: values.bucket ?? ['*'],
    verbs: values.verb ?? DEFAULT_VERBS,
    ...(values.ttl === undefined ? {} : { ttlSeconds: ttlSeconds(values.ttl) }),
  }
  const response = await connect(values, context.env).send({ method: 'POST', path: TOKENS_PATH, json })
  const made = (await response.json()) as ShownToken & { readonly token: string }
  if (values.json === true) return void context.stdout.write(`${JSON.stringify(made, undefined, 2)}\n`)
  const until = made.expires === null ? 'until it is revoked' : `until ${made.expires}`
  context.stderr.write(
    `Token ${made.id} may ${made.verbs.join(', ')} in ${made.buckets.join(', ')} ${until}. It is shown only now:\n`,
  )
  context.stdout.write(`${made.token}\n`)
}

function ttlSeconds(text: string): number {
  const ms = durationMs('--ttl', text)
  if (ms < 1000 || ms % 1000 !== 0) throw new UsageError(`--ttl ${JSON.stringify(text)} is not in whole seconds`)
  return ms / 1000
}

async function ls(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const response = await connect(values, context.env).send({ method: 'GET', path: TOKENS_PATH })
  const { tokens } = (await response.json()) as { readonly tokens: readonly ShownToken[] }
  context.stdout.write(values.json === true ? `${JSON.stringify(tokens, undefined, 2)}\n` : table(tokenRows(tokens)))
}

const COLUMNS: Readonly<Record<string, (token: ShownToken) => string>> = {
  ID: ({ id }) => id,
  NAME: ({ name }) => name,
  OF: ({ parent }) => parent.displayName,
  VERBS: ({ verbs }) => verbs.join(','),
  BUCKETS: ({ buckets }) => buckets.join(','),
  EXPIRES: ({ expires }) => expires ?? 'never',
}

function tokenRows(tokens: readonly ShownToken[]): string[][] {
  return [Object.keys(COLUMNS), ...tokens.map((token) => Object.values(COLUMNS).map((cell) => cell(token)))]
}

async function revoke(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  const [named] = onlyNames(positionals, 'the id of a token')
  // Whoever has only the token itself names it by that; its secret has no business in the path of a request, which is logged.
  const id = /^tgt_([a-z2-7]{12})_/.exec(named)?.[1] ?? named
  await connect(values, context.env).send({ method: 'DELETE', path: `${TOKENS_PATH}/${encodeURIComponent(id)}` })
  if (values.json === true) context.stdout.write(`${JSON.stringify({ id, revoked: true })}\n`)
}
