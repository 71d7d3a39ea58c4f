/** The parent's end of the process of the watchers. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Told, WatchAsk, WatchJob, WatchReply } from './watch-job.ts'

export interface Watchers {
  /** Those there were are closed. Resolves once all of them are answered. */
  open(job: WatchJob): Promise<void>
  /** What was told since the last time, once every watcher has been told of `revision`. @throws when that takes too long */
  collectTo(revision: number): Promise<Told[]>
  close(): Promise<void>
  stop(): void
}

export function startWatchers(): Watchers {
  const child = fork(fileURLToPath(new URL('./watch-process.ts', import.meta.url)), {
    execArgv: [],
    serialization: 'advanced',
  })
  const ask = (question: WatchAsk): Promise<WatchReply> =>
    new Promise((resolve, reject) => {
      const ended = (code: number | null): void => reject(new Error(`the watchers' process ended with code ${code}`))
      child.once('exit', ended)
      child.once('message', (reply: WatchReply) => {
        child.off('exit', ended)
        if ('failure' in reply) reject(new Error(reply.failure))
        else resolve(reply)
      })
      child.send(question)
    })
  return {
    open: async (job) => void (await ask({ open: job })),
    collectTo: async (revision) => {
      const reply = await ask({ collectTo: revision })
      return 'told' in reply ? reply.told : []
    },
    close: async () => void (await ask({ close: true })),
    stop: () => void child.kill(),
  }
}
