/**
 * One history of clients that work through two gateways over one etcd of three members, while a member is killed or paused, or a gateway is killed, and
 * comes back; and the verdict. Values are small enough to lie in the metadata: the bytes of others are one gateway's.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../src/common/assert.ts'
import { Random } from '../model/random.ts'
import { EtcdCluster, type EtcdMember } from '../support/etcd-member.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../support/gateway-process.ts'
import { runClients } from './clients.ts'
import { packedKvModel } from './kv-model.ts'
import { verdict, type RoundResult } from './rounds.ts'

export type Trouble = 'none' | 'member killed' | 'member paused' | 'gateway killed'

const CLIENTS = 16
const OPERATIONS_EACH = 20
const GATEWAYS = 2
const MEMBERS = 3
const LARGE_VALUE_BYTES = 400
const PAUSE_MS = 2_000

export class SharedRounds {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tidegate-linearizability-'))
  readonly #root = randomCredentials()
  readonly #gateways: GatewayProcess[] = []
  #cluster: EtcdCluster | undefined

  async start(): Promise<void> {
    this.#cluster = await EtcdCluster.start({ directory: join(this.#directory, 'etcd'), members: MEMBERS })
    for (let index = 0; index < GATEWAYS; index++) this.#gateways.push(await this.#startGateway(index))
  }

  /** @throws Error with the seed when the history is not linearizable */
  async run({ seed, trouble }: { seed: number; trouble: Trouble }): Promise<RoundResult> {
    const bucket = `round-${seed}`
    const { accessKey, secretKey } = this.#root
    const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
    const made = await fetch(`${this.#of(0).http}/kv/v1/${bucket}`, { method: 'PUT', headers: { authorization } })
    if (made.status !== 201) throw new Error(`the bucket could not be made: ${await made.text()}`)
    const at = new Random(seed).below((CLIENTS * OPERATIONS_EACH) / 2)
    let operations = 0
    let troubled: Promise<void> | undefined
    const history = await runClients({
      url: (client) => this.#of(client % GATEWAYS).http,
      bucket,
      accessKey,
      secretKey,
      seed,
      clients: CLIENTS,
      operationsEach: OPERATIONS_EACH,
      largeValueBytes: LARGE_VALUE_BYTES,
      onOperation: () => {
        if (++operations <= at || troubled) return
        troubled = this.#make(trouble, seed)
        troubled.catch(() => undefined)
      },
    })
    await troubled
    return verdict(seed, history, packedKvModel)
  }

  async end(): Promise<void> {
    await Promise.all(this.#gateways.map((gateway) => gateway.stop()))
    await this.#cluster?.remove()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #make(trouble: Trouble, seed: number): Promise<void> {
    const member = must(this.#cluster?.members[seed % MEMBERS], 'member')
    switch (trouble) {
      case 'none':
        return
      case 'member paused':
        member.pause()
        await sleep(PAUSE_MS)
        return member.resume()
      case 'member killed':
        return await this.#killMember(member)
      case 'gateway killed':
        await this.#of(seed % GATEWAYS).kill()
        this.#gateways[seed % GATEWAYS] = await this.#startGateway(seed % GATEWAYS)
    }
  }

  async #killMember(member: EtcdMember): Promise<void> {
    await member.kill()
    await sleep(PAUSE_MS)
    member.start(must(this.#cluster, 'cluster').initial)
    await member.waitHealthy()
  }

  #of(index: number): GatewayProcess {
    return must(this.#gateways[index], 'gateway')
  }

  #startGateway(index: number): Promise<GatewayProcess> {
    const endpoints = must(this.#cluster, 'cluster').endpoints.map((endpoint) => new URL(endpoint).host)
    return startGateway({
      data: join(this.#directory, `data${index}`),
      root: this.#root,
      logFile: join(this.#directory, `log${index}`),
      flags: ['--meta', `etcd://${endpoints.join(',')}`, '--cache-memory', '64MiB'],
    })
  }
}
