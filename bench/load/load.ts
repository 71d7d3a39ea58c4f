/** The parent's end of a load process. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { LoadJob, LoadReply, LoadResult } from './job.ts'

export interface Load {
  /** One job at a time. @throws when a connection failed, or any answer was not a 2xx */
  run(job: LoadJob): Promise<LoadResult>
  stop(): void
}

export function startLoad(): Load {
  const child = fork(fileURLToPath(new URL('./load-process.ts', import.meta.url)), {
    execArgv: [],
    // Jobs hold bytes.
    serialization: 'advanced',
  })
  return {
    run: (job) =>
      new Promise((resolve, reject) => {
        const ended = (code: number | null): void => reject(new Error(`the load process ended with code ${code}`))
        child.once('exit', ended)
        child.once('message', (reply: LoadReply) => {
          child.off('exit', ended)
          if ('failure' in reply) return reject(new Error(reply.failure))
          const { result } = reply
          if (result.errors === 0) return resolve(result)
          const { method, path } = job.request
          reject(new Error(`${result.errors} of ${result.requests} ${method} ${path} failed: ${result.firstError}`))
        })
        child.send(job)
      }),
    stop: () => void child.kill(),
  }
}
