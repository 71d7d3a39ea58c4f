/**
 * An address of this machine that swallows packets, as that of a container or a machine does which has just gone: whoever connects there is neither taken nor refused.
 *
 * It is a listener that takes no connections, and whose queue for them is full.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { must } from '../../src/common/assert.ts'

const TAKEN_MS_MAX = 500
/** Of the queue; the listener asks for 1. */
const QUEUE_MAX = 16

const LISTENER = `
const server = require('node:net').createServer()
server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
  require('node:fs').writeSync(1, server.address().port + '\\n')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10 * 60_000)
  process.exit(1)
})`

export interface BlackHole {
  readonly port: number
  end(): Promise<void>
}

export async function openBlackHole(): Promise<BlackHole> {
  const child = spawn(process.execPath, ['-e', LISTENER], { stdio: ['ignore', 'pipe', 'inherit'] })
  const queued: Socket[] = []
  const end = async (): Promise<void> => {
    for (const socket of queued) socket.destroy()
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  try {
    const [told] = (await once(must(child.stdout, 'output of the listener'), 'data')) as [Buffer]
    const port = Number(told.toString())
    while (await isTaken(port, queued)) {
      if (queued.length > QUEUE_MAX) throw new Error(`the queue of ${port} does not get full`)
    }
    return { port, end }
  } catch (error) {
    await end()
    throw error
  }
}

/** Whether the kernel has put it into the queue. */
async function isTaken(port: number, queued: Socket[]): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port })
  socket.on('error', () => undefined)
  queued.push(socket)
  return await once(socket, 'connect', { signal: AbortSignal.timeout(TAKEN_MS_MAX) }).then(
    () => true,
    () => false,
  )
}
