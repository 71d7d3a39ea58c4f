/**
 * The loss of a node: load, SIGKILL, and the data directory is gone. What the remote store holds must be enough.
 *
 *   newest        restored from the newest state: everything acknowledged at `persisted`, or acknowledged before a drain, is there
 *   backup        restored from a backup: everything is as it was when the backup was made
 *   rebuilt       the same without naming a state; then with `names/` and `backups/` removed: what the labels of segments tell
 *   old node      a copy of the lost directory that comes back is refused: somebody else holds the remote store now
 */
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DeleteObjectsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { randomBytes } from 'node:crypto'
import { Random } from '../../model/random.ts'
import { runTidegate } from '../../support/command-line.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { BUCKET, Clients, MIXED_LOAD, MixedLoad, persistingClient } from '../load/mixed-load.ts'
import { BrokenPromise, digest, Ledger, type Safety } from '../load/ledger.ts'
import { readBack } from '../load/read-back.ts'
import { drainFlusher } from '../remote/flush-command.ts'
import { listRemote } from '../remote/audit.ts'
import type { RemoteTarget } from '../remote/remote-target.ts'

export interface DisasterOptions {
  readonly seed: number
  /** Scratch files: data directories, logs. */
  readonly directory: string
  readonly remote: RemoteTarget
  readonly loadMs: number
  readonly onStep?: (step: string) => void
}

export interface DisasterReport {
  readonly acknowledged: number
  readonly compared: number
}

const FLAGS = Object.entries({
  '--segment-size': '8MiB',
  '--segment-age': '200ms',
  '--cache-memory': '64MiB',
  '--hash-workers': '1',
  '--buckets': BUCKET,
}).flat()
const REMOVED_AT_ONCE_MAX = 1000
/** Until one that has lost its remote store knows. */
const REFUSED_MS_MAX = 15_000
const LABELLED_OBJECTS = 60
const LABELLED_BYTES_MIN = 5_000
const LABELLED_BYTES_MAX = 400_000

/** @throws BrokenPromise naming what did not come back */
export async function runDisaster(options: DisasterOptions): Promise<DisasterReport> {
  const node = new Node(options, `disaster/${options.seed}`)
  const random = new Random(options.seed)
  const ledger = new Ledger()
  let compared = 0

  const lost = await node.start('lost')
  await load(lost, { ledger, random, ms: options.loadMs })
  await drainFlusher(lost)
  ledger.allPersisted()
  const backup = await node.backup(lost)
  const atBackup = ledger.copy()
  options.onStep?.(`backup ${backup} is made`)
  await load(lost, { ledger, random, ms: options.loadMs })
  await lost.kill()
  node.copy('lost', 'old')
  node.remove('lost')
  options.onStep?.('the node is lost')

  await node.command('restore', 'newest')
  compared += await node.compare('newest', ledger, 'persisted')
  options.onStep?.('restored from the newest state')
  await node.expectRefused('old')
  options.onStep?.('the old node is refused')

  await node.writeAndLose('newest', ledger)
  await node.command('restore', 'again')
  compared += await node.compare('again', ledger, 'persisted')
  options.onStep?.('the restored node is lost as soon as it has acknowledged a write at persisted, and restored')

  await node.command('restore', 'from-backup', ['--backup', backup])
  compared += await node.compare('from-backup', atBackup, 'persisted')
  options.onStep?.('restored from the backup')
  await node.expectRefused('again')

  return { acknowledged: ledger.acknowledged, compared }
}

/** The stream of names is gone too, or was never there: `rebuild` has segments and their labels, and nothing else. */
export async function runRebuild(options: DisasterOptions): Promise<DisasterReport> {
  const node = new Node(options, `rebuild/${options.seed}`)
  const random = new Random(options.seed)
  const ledger = new Ledger()
  const lost = await node.start('lost')
  await putLabelled(lost, ledger, random)
  await drainFlusher(lost)
  ledger.allPersisted()
  await lost.kill()
  node.remove('lost')

  await node.command('rebuild', 'from-names')
  let compared = await node.compare('from-names', ledger, 'persisted')
  options.onStep?.('rebuilt from names')
  node.remove('from-names')
  await node.removeRemote(['names/', 'backups/'])
  await node.command('rebuild', 'from-labels')
  compared += await node.compare('from-labels', ledger, 'persisted')
  options.onStep?.('rebuilt from labels alone')
  return { acknowledged: ledger.acknowledged, compared }
}

/** Bodies too large to lie in a row; some are written over, so that the newer of two labels counts. */
async function putLabelled(gateway: GatewayProcess, ledger: Ledger, random: Random): Promise<void> {
  const clients = new Clients(gateway)
  try {
    for (let index = 0; index < LABELLED_OBJECTS; index++) {
      const key = `folder-${index % 3}/object-${index % (LABELLED_OBJECTS - 10)}`
      const body = randomBytes(LABELLED_BYTES_MIN + random.below(LABELLED_BYTES_MAX - LABELLED_BYTES_MIN))
      const attempt = ledger.begin(key, digest(body))
      await clients.s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }))
      attempt.acknowledged('journal')
    }
  } finally {
    clients.close()
  }
}

async function load(
  gateway: GatewayProcess,
  { ledger, random, ms }: { readonly ledger: Ledger; readonly random: Random; readonly ms: number },
): Promise<void> {
  const clients = new Clients(gateway)
  const end = new AbortController()
  try {
    const running = new MixedLoad(MIXED_LOAD, { ledger, random }).run(clients, { signal: end.signal })
    await Promise.race([running, sleep(ms)])
    end.abort(new Error('the load ends'))
    await running
  } finally {
    clients.close()
  }
}

/** Data directories, one after the other, over one prefix of a remote store. */
class Node {
  readonly #options: DisasterOptions
  readonly #prefix: string
  readonly #root = randomCredentials()

  constructor(options: DisasterOptions, prefix: string) {
    this.#options = options
    this.#prefix = prefix
  }

  #data(name: string): string {
    return join(this.#options.directory, name)
  }

  start(name: string): Promise<GatewayProcess> {
    const { remote, directory } = this.#options
    return startGateway({
      data: this.#data(name),
      root: this.#root,
      flags: [...FLAGS, ...remote.flags(this.#prefix)],
      environment: remote.environment,
      logFile: join(directory, 'log'),
    })
  }

  copy(from: string, to: string): void {
    cpSync(this.#data(from), this.#data(to), { recursive: true })
  }

  remove(name: string): void {
    rmSync(this.#data(name), { recursive: true })
  }

  /** @returns its name */
  async backup(gateway: GatewayProcess): Promise<string> {
    const { accessKey, secretKey } = this.#root
    const made = await runTidegate(['backup', '--gateway', gateway.http, '--json'], {
      TIDEGATE_ROOT_USER: accessKey,
      TIDEGATE_ROOT_PASSWORD: secretKey,
    })
    if (made.code !== 0) throw new Error(`tidegate backup ended with ${made.code}: ${made.output}`)
    return (JSON.parse(made.output) as { readonly id: string }).id
  }

  /** A data directory made from the remote store alone. */
  async command(command: 'restore' | 'rebuild', name: string, options: readonly string[] = []): Promise<void> {
    const { remote } = this.#options
    const where = ['--data', this.#data(name), ...remote.flags(this.#prefix)]
    const { code, output } = await runTidegate([command, ...where, ...options], remote.environment)
    if (code !== 0) throw new Error(`tidegate ${command} ended with ${code}: ${output}`)
  }

  /** One write at `persisted`, the first thing that the node does, and it is gone: only a record may know of it. */
  async writeAndLose(name: string, ledger: Ledger): Promise<void> {
    const gateway = await this.start(name)
    const client = persistingClient(gateway)
    const key = 'the-first-after-a-restore'
    const body = randomBytes(LABELLED_BYTES_MIN)
    try {
      const attempt = ledger.begin(key, digest(body))
      await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }))
      attempt.acknowledged('persisted')
    } finally {
      client.destroy()
      await gateway.kill()
    }
    this.remove(name)
  }

  /** Every key, read by a gateway that has nothing but what the remote store holds. */
  async compare(name: string, ledger: Ledger, safety: Safety): Promise<number> {
    const gateway = await this.start(name)
    const clients = new Clients(gateway)
    try {
      const compared = await readBack(clients.s3, ledger, safety)
      if (compared === 0) throw new Error('there was nothing to compare')
      const code = await gateway.stop()
      if (code !== 0) throw new Error(`the gateway ended with code ${code} after SIGTERM`)
      return compared
    } catch (error) {
      throw new BrokenPromise(`${name}: ${(error as Error).message}`, { cause: error })
    } finally {
      clients.close()
      await gateway.kill()
    }
  }

  /**
   * Another holds the remote store. While it has not asked it may serve what it has, for it cannot know; then it ends with an error,
   * without having changed anything there.
   */
  async expectRefused(name: string): Promise<void> {
    const before = await this.#remoteNames()
    const gateway = await this.start(name).catch((error: unknown) => {
      if (/ended with code [1-9]/.test((error as Error).message)) return undefined
      throw error
    })
    if (gateway) {
      for (const deadlineMs = Date.now() + REFUSED_MS_MAX; Date.now() < deadlineMs; await sleep(100)) {
        if (gateway.child.exitCode !== null) break
      }
      const { exitCode } = gateway.child
      await gateway.kill()
      if (exitCode === null || exitCode === 0)
        throw new BrokenPromise(`${name} serves on, and another data directory holds its remote store`)
    }
    if ((await this.#remoteNames()) !== before)
      throw new BrokenPromise(`${name} has changed a store that is not its own`)
  }

  async #remoteNames(): Promise<string> {
    const { objects } = await listRemote(this.#options.remote, this.#prefix)
    return [...objects].map(([name, bytes]) => `${name} ${bytes}`).join('\n')
  }

  async removeRemote(folders: readonly string[]): Promise<void> {
    const { remote } = this.#options
    const { objects } = await listRemote(remote, this.#prefix)
    const names = [...objects.keys()].filter((name) => folders.some((folder) => name.startsWith(folder)))
    const client = remote.client()
    try {
      for (let at = 0; at < names.length; at += REMOVED_AT_ONCE_MAX) {
        const Objects = names.slice(at, at + REMOVED_AT_ONCE_MAX).map((name) => ({ Key: `${this.#prefix}/${name}` }))
        await client.send(new DeleteObjectsCommand({ Bucket: remote.bucket, Delete: { Objects, Quiet: true } }))
      }
    } finally {
      client.destroy()
    }
  }
}
