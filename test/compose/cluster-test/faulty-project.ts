/** The cluster of the compose files, brought up so that all faults can befall it, with clients for it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3Client } from '@aws-sdk/client-s3'
import { STATUS_PATH, type ShownStatus } from '../../../src/cli/status-text.ts'
import { createKvClient } from '../../../src/client/kv-client.ts'
import { must } from '../../../src/common/assert.ts'
import type { LoadDoors, LoadTargets } from '../../cluster/node-loss/replicated-load.ts'
import type { Random } from '../../model/random.ts'
import { randomCredentials, type GatewayDoors } from '../../support/gateway-process.ts'
import { REPOSITORY } from '../../support/run-command.ts'
import { sdkClient } from '../../support/sdk-client.ts'
import { areSafeAgain, BUCKET } from '../../support/three-gateways.ts'
import type { Engine } from '../engine/engine.ts'
import type { FaultName, FaultyCluster } from '../faults/catalogue.ts'
import { onHost } from '../faults/host-command.ts'
import { NodeClocks } from '../faults/node-clocks.ts'
import { SmallVolume } from '../faults/small-volume.ts'
import { ComposeProject, type Container } from '../project.ts'

const SERVICES = ['n1', 'n2', 'n3'] as const
const FILES = ['docker/compose.cluster.yml', 'docker/compose.mount.yml'].map((file) => join(REPOSITORY, file))
/** Below what the kernel gives to outgoing connections, which would take a port while its container is down. */
const PORTS = { first: 20_000, count: 10_000 }
const SMALL_VOLUME = 'n3'
const SMALL_VOLUME_BYTES = 3 * 1024 ** 3
/** Its numbers, by which every Linux knows it. */
const FUSE_DEVICE = ['c', '10', '229'] as const
const UP_MS_MAX = 240_000
const STATUS_MS_MAX = 10_000
const LOOK_EVERY_MS = 200
const LOGS_MS_MAX = 60_000

export interface FaultyProjectOptions {
  readonly name: string
  readonly random: Random
  /** Those that it is to stand: some take preparations. */
  readonly faults: readonly FaultName[]
  /** Instead of what the compose file says. */
  readonly image?: string | undefined
}

/** What was made outside of the project. */
interface Preparations {
  readonly directory: string
  /** One that the image's user may open: on some machines /dev/fuse is root's alone. */
  readonly fuseDevice: string
  readonly clocks: NodeClocks
  readonly smallVolumes: Map<string, SmallVolume>
}

export class FaultyProject {
  readonly nodes: readonly GatewayDoors[]
  readonly faulty: FaultyCluster
  readonly #project: ComposeProject
  readonly #preparations: Preparations
  readonly #clients: S3Client[]

  private constructor(
    project: ComposeProject,
    { nodes, faulty, preparations }: Pick<FaultyProject, 'nodes' | 'faulty'> & { readonly preparations: Preparations },
  ) {
    this.#project = project
    this.nodes = nodes
    this.faulty = faulty
    this.#preparations = preparations
    this.#clients = nodes.map((node) => sdkClient(node))
  }

  /** All nodes serve, and are mounted. */
  static async up(engine: Engine, { name, random, faults, image }: FaultyProjectOptions): Promise<FaultyProject> {
    const root = randomCredentials()
    const ports = await freePorts(random, SERVICES.length * 2)
    const doors = SERVICES.map((service, index) => {
      const [s3, http] = [must(ports[2 * index], 'a port'), must(ports[2 * index + 1], 'a port')]
      return { service, s3, http }
    })
    const preparations = await prepare(faults)
    try {
      const environment = {
        ...(image === undefined ? {} : { TIDEGATE_IMAGE: image }),
        TIDEGATE_ROOT_USER: root.accessKey,
        TIDEGATE_ROOT_PASSWORD: root.secretKey,
        TIDEGATE_BUCKETS: BUCKET,
        TIDEGATE_CACHE_MEMORY: '64MiB',
        TIDEGATE_FUSE_DEVICE: preparations.fuseDevice,
        ...Object.fromEntries(
          doors.flatMap(({ service, s3, http }) => [
            [`${service.toUpperCase()}_S3_PORT`, String(s3)],
            [`${service.toUpperCase()}_HTTP_PORT`, String(http)],
          ]),
        ),
      }
      const override = overrideOf(preparations)
      const project = await ComposeProject.up(engine, { name, files: FILES, environment, override, waitMs: UP_MS_MAX })
      try {
        const containers = await Promise.all(SERVICES.map((service) => project.container(service)))
        const store = await project.container('store')
        const nodes = doors.map(({ s3, http }) => ({
          s3: `http://127.0.0.1:${s3}`,
          http: `http://127.0.0.1:${http}`,
          root,
        }))
        const faulty = { nodes: containers, store, ...preparations }
        return new FaultyProject(project, { nodes, faulty, preparations })
      } catch (error) {
        await project.down()
        throw error
      }
    } catch (error) {
      await undo(preparations)
      throw error
    }
  }

  get containers(): readonly Container[] {
    return this.faulty.nodes
  }

  /** Clients of each node that try once. */
  get clients(): readonly S3Client[] {
    return this.#clients
  }

  targets(): LoadTargets {
    const doors = this.nodes.map((node, index): LoadDoors => ({
      s3: must(this.#clients[index], 'a client'),
      kv: createKvClient({ url: node.http, bucket: BUCKET, ...node.root, retries: 0 }),
    }))
    return { running: doors.map((_, index) => index), doors: (index) => must(doors[index], 'a node') }
  }

  /** All serve, and everything is as safe as it is to be. @throws Error with what the last node said */
  async untilHealed(withinMs: number): Promise<void> {
    const untilMs = performance.now() + withinMs
    const isSafe = areSafeAgain(this.nodes.length)
    for (const [index, node] of this.nodes.entries()) {
      for (let last = ''; ; await sleep(LOOK_EVERY_MS)) {
        try {
          const status = await statusOf(node)
          if (isSafe(status)) break
          last = JSON.stringify(status)
        } catch (error) {
          last = String(error)
        }
        if (performance.now() > untilMs)
          throw new Error(`${SERVICES[index]} is not well again within ${withinMs} ms: ${last}`)
      }
    }
  }

  /** Made anew from what its image's name says now, while the others go on. Its container is another one then. */
  async recreate(service: string): Promise<void> {
    const command = ['up', '-d', '--no-build', '--no-deps', '--wait', service]
    await this.#project.compose(command, { timeoutMs: UP_MS_MAX })
  }

  /** @returns the directory in which they are kept */
  async keepLogs(): Promise<string> {
    const directory = mkdtempSync(join(tmpdir(), 'tidegate-cluster-test-logs-'))
    const log = await this.#project.compose(['logs', '--no-color', '--timestamps'], { timeoutMs: LOGS_MS_MAX })
    writeFileSync(join(directory, 'compose.log'), log)
    return directory
  }

  /** Nothing of it is left. */
  async down(): Promise<void> {
    for (const client of this.#clients) client.destroy()
    try {
      await this.#project.down()
    } finally {
      await undo(this.#preparations)
    }
  }
}

async function statusOf({ http, root }: GatewayDoors): Promise<ShownStatus> {
  const authorization = `Basic ${Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')}`
  const ready = await fetch(`${http}/-/readyz`, { signal: AbortSignal.timeout(STATUS_MS_MAX) })
  if (!ready.ok) throw new Error(`not ready: ${await ready.text()}`)
  const signal = AbortSignal.timeout(STATUS_MS_MAX)
  const response = await fetch(`${http}${STATUS_PATH}`, { headers: { authorization }, signal })
  if (!response.ok) throw new Error(`status ${response.status}: ${await response.text()}`)
  return (await response.json()) as ShownStatus
}

async function prepare(faults: readonly FaultName[]): Promise<Preparations> {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-cluster-test-'))
  const fuseDevice = join(directory, 'fuse')
  await onHost(['mknod', '--mode=0666', fuseDevice, ...FUSE_DEVICE])
  const wantsClocks = faults.some((name) => name.startsWith('clock '))
  const clocks = await NodeClocks.make(wantsClocks ? SERVICES : [])
  const smallVolumes = new Map<string, SmallVolume>()
  if (faults.includes('disk full')) smallVolumes.set(SMALL_VOLUME, await SmallVolume.make(SMALL_VOLUME_BYTES))
  return { directory, fuseDevice, clocks, smallVolumes }
}

function overrideOf({ clocks, smallVolumes }: Preparations): object {
  const volumes = [...smallVolumes].map(([service, volume]) => [service, volume.definition])
  return { ...clocks.override, volumes: Object.fromEntries(volumes) as object }
}

async function undo({ directory, clocks, smallVolumes }: Preparations): Promise<void> {
  rmSync(directory, { recursive: true })
  clocks.remove()
  for (const volume of smallVolumes.values()) await volume.remove()
}

/** The same ones after a restart too. */
async function freePorts(random: Random, count: number): Promise<number[]> {
  const free: number[] = []
  while (free.length < count) {
    const port = PORTS.first + random.below(PORTS.count)
    if (!free.includes(port) && (await isFree(port))) free.push(port)
  }
  return free
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  server.listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch {
    return false
  }
  server.close()
  await once(server, 'close')
  return true
}
