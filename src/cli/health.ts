/**
 * `tidegate health`: asks the gateway that this configuration describes whether it serves. It is the health check of the image, which runs it every few
 * seconds, so it loads the configuration and little else: node's HTTP client alone would take longer than all the rest, and a status and a sentence need none.
 */
import { connect, isIP, type Socket } from 'node:net'
import { ConfigError } from '../config/config-error.ts'
import { isWildcard } from '../config/neighbour-options.ts'
import { parseConfig, type Config } from '../config/parse.ts'
import { GatewayError } from './connection.ts'
import { parseInput } from './machine.ts'
import type { CliContext, Command, ExitCode } from './command.ts'

/** Below what container engines are told to wait, so that its words are seen. */
const ANSWER_MS_MAX = 4_000
const ANSWER_LENGTH_MAX = 16 * 1024

export const healthCommand: Command = {
  name: 'health',
  usage: '[--live] [OPTIONS]',
  summary: 'ask the gateway of this configuration whether it serves',
  details: () =>
    `Asks /-/readyz on its HTTP port, from the same machine, for at most ${ANSWER_MS_MAX / 1000} seconds. Ends with code 0 if it serves, else with
1 and what is the matter on stderr. OPTIONS, environment and file are those of "tidegate serve". Needs no credentials.

--live         ask whether the process lives (/-/healthz), which it also does while it waits for others
`,
  run: check,
}

async function check(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const options = argv.filter((argument) => argument !== '--live')
  const wanted = options.length < argv.length ? 'live' : 'ready'
  const url = new URL(wanted === 'live' ? '/-/healthz' : '/-/readyz', origin(parseConfig(parseInput(options, context))))
  const { status, sentence } = await ask(url)
  const words = sentence === '' ? '' : `: ${sentence}`
  if (status !== 200) throw new GatewayError(`not ${wanted}: ${url.href} answers ${status}${words}`, { status })
  context.stdout.write(`${wanted}${words}\n`)
  return 0
}

/** Where the gateway is reached from its own machine. @throws ConfigError */
function origin({ http: { host, port }, tls }: Config): string {
  if (port === 0) throw new ConfigError('--http: with port 0 only the gateway knows where it listens; give a port')
  const scheme = tls === undefined ? 'http' : 'https'
  // A socket on all addresses takes both families, and some containers have no ::1.
  if (isWildcard(host)) return `${scheme}://127.0.0.1:${port}`
  return `${scheme}://${isIP(host) === 6 ? `[${host}]` : host}:${port}`
}

interface Answer {
  readonly status: number
  /** Empty when nothing is the matter. */
  readonly sentence: string
}

/** @throws GatewayError when there is no answer in time */
async function ask(url: URL): Promise<Answer> {
  let deadline: NodeJS.Timeout | undefined
  try {
    const socket = await opened(url)
    deadline = setTimeout(
      () => socket.destroy(new Error(`no answer in ${ANSWER_MS_MAX / 1000} seconds`)),
      ANSWER_MS_MAX,
    )
    // Of this version an answer is not cut into chunks, and ends with the connection (RFC 1945, 7.2.2).
    socket.write(`GET ${url.pathname} HTTP/1.0\r\nHost: ${url.host}\r\n\r\n`)
    let text = ''
    for await (const chunk of socket as AsyncIterable<string>) {
      text += chunk
      if (text.length > ANSWER_LENGTH_MAX) break
    }
    return answerIn(text)
  } catch (error) {
    throw new GatewayError(`cannot reach the gateway at ${url.href}: ${wordsOf(error)}`, { cause: error })
  } finally {
    clearTimeout(deadline)
  }
}

async function opened(url: URL): Promise<Socket> {
  const isTls = url.protocol === 'https:'
  const place = { host: url.hostname.replaceAll(/[[\]]/g, ''), port: Number(url.port || (isTls ? 443 : 80)) }
  // The name in the certificate is that by which others know the gateway, not the loopback's; and its file may be newer than what the gateway has loaded. So it
  // is not checked: what is asked tells nothing, and who could answer in its place on this machine could take its port too.
  const socket = isTls ? (await import('node:tls')).connect({ ...place, rejectUnauthorized: false }) : connect(place)
  // It also reaches whoever reads; this is for one that comes when nobody does any more.
  socket.on('error', () => undefined)
  return socket.setEncoding('utf8')
}

function answerIn(text: string): Answer {
  const status = /^HTTP\/1\.[01] (\d{3}) /.exec(text)?.[1]
  const bodyAt = text.indexOf('\r\n\r\n')
  if (status === undefined || bodyAt < 0) throw new Error('what answers is no gateway')
  return { status: Number(status), sentence: text.slice(bodyAt).trim() }
}

/** A host with several addresses fails with an error for each, and no words of its own. */
function wordsOf(error: unknown): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return first instanceof Error ? first.message : String(first)
}
