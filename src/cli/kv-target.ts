import { Writable } from 'node:stream'
import { createKvClient, type KvClient } from '../client/kv-client.ts'
import { onlyNames } from './arguments.ts'
import { UsageError } from './command.ts'
import { connect, CONNECTION_OPTIONS } from './connection.ts'
import type { CliContext, Output } from './command.ts'

/** What every `tidegate kv` command takes. */
export const KV_OPTIONS = { gateway: CONNECTION_OPTIONS.gateway } as const

/** `BUCKET/KEY`: all behind the first slash is the key, whatever it looks like. @throws UsageError */
export function keyTarget(positionals: readonly string[]): { bucket: string; key: string } {
  const { bucket, rest } = splitTarget(onlyNames(positionals, 'BUCKET/KEY')[0])
  if (rest === '') throw new UsageError(`BUCKET/KEY is wanted, and ${JSON.stringify(positionals[0])} names no key`)
  return { bucket, key: rest }
}

/** `BUCKET[/PREFIX]`. @throws UsageError */
export function prefixTarget(positionals: readonly string[]): { bucket: string; prefix: string | undefined } {
  const { bucket, rest } = splitTarget(onlyNames(positionals, 'BUCKET[/PREFIX]')[0])
  return { bucket, prefix: rest === '' ? undefined : rest }
}

function splitTarget(target: string): { bucket: string; rest: string } {
  const slash = target.indexOf('/')
  const bucket = slash < 0 ? target : target.slice(0, slash)
  if (bucket === '') throw new UsageError(`${JSON.stringify(target)} names no bucket`)
  return { bucket, rest: slash < 0 ? '' : target.slice(slash + 1) }
}

/** Runs `use` with a client that is closed behind it. */
export async function withClient<T>(
  bucket: string,
  values: { readonly gateway?: string | undefined },
  context: CliContext,
  use: (client: KvClient) => Promise<T>,
): Promise<T> {
  const { url, authorization } = connect(values, context.env)
  const client = createKvClient({ url, bucket, authorization: authorization.reveal() })
  try {
    return await use(client)
  } finally {
    client.close()
  }
}

/** A whole number in a flag. @throws UsageError */
export function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`${flag} ${JSON.stringify(text)} is not a whole number`)
  return Number(text)
}

/** A name as it stands in a line: one that would break the line, or move a terminal's cursor, as a JSON string. */
export function shownName(name: string): string {
  return /[\p{Cc}\u2028\u2029]/u.test(name) ? JSON.stringify(name) : name
}

/**
 * Writes at the reader's pace. A reader that has seen enough (`| head`) ends the work without a word, as it would end
 * any other program of a pipe.
 */
export async function writingTo(
  output: Output,
  work: (write: (piece: string | Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  if (!(output instanceof Writable)) {
    return work((piece) => {
      output.write(piece)
      return Promise.resolve()
    })
  }
  // Told to whoever writes, below; without a listener it would end the process.
  const ignore = (): void => undefined
  output.on('error', ignore)
  try {
    await work(
      (piece) =>
        new Promise((resolve, reject) => {
          output.write(piece, (error) => (error ? reject(error) : resolve()))
        }),
    )
  } catch (error) {
    if (!isClosedPipe(error)) throw error
  } finally {
    output.off('error', ignore)
  }
}

function isClosedPipe(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED'
}
