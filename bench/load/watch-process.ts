/**
 * Many watchers in a process of their own: raw sockets, on which event streams are read as far as their `id` lines, so that being told
 * costs far less than telling.
 */
import { connect, type Socket } from 'node:net'
import { monotonicMs, type WatchAsk, type WatchJob, type WatchReply } from './watch-job.ts'

const COLLECT_MS_MAX = 60_000
/** Watchers that are opened at once. */
const OPENING_MAX = 50

let sockets: Socket[] = []
/** Times by revision, in the order in which they came. */
let told = new Map<number, number[]>()
let broken: string | undefined

process.on('message', (ask: WatchAsk) => {
  perform(ask).then(reply, (error: unknown) =>
    reply({ failure: error instanceof Error ? error.message : String(error) }),
  )
})

process.on('disconnect', () => process.exit(0))

function reply(message: WatchReply): void {
  process.send?.(message)
}

async function perform(ask: WatchAsk): Promise<WatchReply> {
  if ('collectTo' in ask) return collect(ask.collectTo)
  for (const socket of sockets) socket.destroy()
  sockets = []
  told = new Map()
  broken = undefined
  if ('close' in ask) return { opened: true }
  while (sockets.length < ask.open.watchers) {
    const count = Math.min(OPENING_MAX, ask.open.watchers - sockets.length)
    sockets.push(...(await Promise.all(Array.from({ length: count }, () => openWatcher(ask.open)))))
  }
  return { opened: true }
}

/** Resolves once the head of the answer has come. */
function openWatcher({ origin, path, headers }: WatchJob): Promise<Socket> {
  const { hostname, port, host } = new URL(origin)
  const lines = Object.entries({ host, accept: 'text/event-stream', ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  )
  return new Promise((resolve, reject) => {
    const fail = (reason: string): void => {
      broken ??= reason
      reject(new Error(reason))
    }
    const socket = connect({ host: hostname, port: Number(port) })
    let rest = ''
    let opened = false
    socket.setEncoding('latin1')
    socket.on('connect', () => socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`))
    socket.on('data', (chunk) => {
      rest += chunk.toString()
      if (!opened) {
        const headEnd = rest.indexOf('\r\n\r\n')
        if (headEnd === -1) return
        if (!rest.startsWith('HTTP/1.1 200')) return fail(`a watch was answered with ${rest.slice(0, 400)}`)
        opened = true
        rest = rest.slice(headEnd + 4)
        resolve(socket)
      }
      rest = takeEvents(rest)
    })
    socket.on('error', (error) => fail(error.message))
    socket.on('close', () => fail('the server ended an event stream'))
  })
}

/** Notes the events that are complete and returns what comes after them. Sizes of chunks stand between them. */
function takeEvents(text: string): string {
  const end = text.lastIndexOf('\n\n')
  if (end === -1) return text
  const nowMs = monotonicMs()
  for (const block of text.slice(0, end).split('\n\n')) {
    const id = block.includes('data: ') ? /(?:^|\n)id: (\d+)\n/.exec(block) : null
    if (id === null) continue
    const revision = Number(id[1])
    const times = told.get(revision)
    if (times === undefined) told.set(revision, [nowMs])
    else times.push(nowMs)
  }
  return text.slice(end + 2)
}

async function collect(last: number): Promise<WatchReply> {
  const deadlineMs = monotonicMs() + COLLECT_MS_MAX
  while ((told.get(last)?.length ?? 0) < sockets.length) {
    if (broken !== undefined) throw new Error(broken)
    if (monotonicMs() > deadlineMs) {
      throw new Error(`${told.get(last)?.length ?? 0} of ${sockets.length} watchers were told of revision ${last}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  const answer = [...told].map(([revision, times]) => ({ revision, atMs: Float64Array.from(times) }))
  told = new Map()
  return { told: answer }
}
