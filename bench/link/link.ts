/** A server on this machine as if it were far away. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

export interface Link {
  /** Of the server, through the link. */
  readonly origin: string
  stop(): void
}

export async function startLink(
  origin: string,
  { bytesPerSecond, delayMs }: { readonly bytesPerSecond: number; readonly delayMs: number },
): Promise<Link> {
  const shape = [new URL(origin).port, String(bytesPerSecond), String(delayMs)]
  // A process of its own: it must not wait for a client in this one, nor a client for it.
  const child = fork(fileURLToPath(new URL('./link-process.ts', import.meta.url)), shape, { execArgv: [] })
  const [{ port }] = (await once(child, 'message')) as [{ port: number }]
  return { origin: `http://127.0.0.1:${port}`, stop: () => void child.kill() }
}
