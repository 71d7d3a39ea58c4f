import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { PutObjectCommand, GetObjectCommand } from '@aws-sdk/client-s3'
import { startGateway } from '../support/gateway-process.ts'
import { runTidegate } from '../support/command-line.ts'
import { startRemote } from './remote/remote-target.ts'
import { drainFlusher } from './remote/flush-command.ts'
import { persistingClient } from './load/mixed-load.ts'
const dir = mkdtempSync('/tmp/wbproof/s-')
const remote = await startRemote('external')
const start = (n: string, program?: [string, ...string[]]) => startGateway({ data: join(dir, n), logFile: join(dir, 'log'), environment: remote.environment, flags: ['--buckets', 'bbb', '--segment-age', '200ms', '--segment-size', '8MiB', '--cache-memory', '64MiB', ...remote.flags('p')], ...(program && { program }) })
const rest = async (n: string) => { const r = await runTidegate(['restore', '--data', join(dir, n), ...remote.flags('p')], remote.environment); console.log(r.code, r.output) }
try {
  const a = await start('a'); const ca = persistingClient(a)
  await ca.send(new PutObjectCommand({ Bucket: 'bbb', Key: 'one', Body: Buffer.alloc(10000, 1) }))
  await drainFlusher(a); await new Promise((r) => setTimeout(r, 3000)); await a.stop()
  await rest('b')
  const b = await start('b', [process.execPath, 'test/write-behind/scratch-hang-process.ts']); const cb = persistingClient(b)
  await cb.send(new PutObjectCommand({ Bucket: 'bbb', Key: 'two', Body: Buffer.alloc(10000, 2) }))
  console.log('two acknowledged at persisted'); await b.kill()
  await rest('c')
  const c = await start('c'); const cc = persistingClient(c)
  for (const k of ['one', 'two']) console.log(k, await cc.send(new GetObjectCommand({ Bucket: 'bbb', Key: k })).then((x) => x.ContentLength, (e: Error) => e.name))
  await c.stop()
} finally { await remote.stop() }
process.exit(0)
