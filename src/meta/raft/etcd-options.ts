import { randomFillSync } from 'node:crypto'
import { assert } from '../../common/assert.ts'
import { systemClock } from '../../common/clock.ts'
import { stageSettings, type StageOptions, type StageSettings } from '../stage/options.ts'
import type { Backend } from '../stage/ports.ts'
import type { Incarnation } from './layout.ts'
import type { Etcd } from './ports.ts'

const MIB = 1024 * 1024

export interface EtcdStoreOptions extends Omit<StageOptions, 'unwantedGroupMsMax'> {
  /** Started, and stopped, by whoever made it. */
  readonly etcd: Etcd
  /** Of all keys in etcd. Default: `/tidegate/`. */
  readonly prefix?: string
  /** Of this node, different from every other's; one process runs a node at a time, and a later one takes over. */
  readonly node: number
  /** Where this node keeps its copy of the rows. Not used by anything else. */
  readonly replica: Backend
  readonly fillRandom?: (bytes: Uint8Array) => void
  /** Of this process; made at random if not given. */
  readonly incarnation?: Incarnation | undefined
  /** Another process has taken this node over: nothing can be read or written here any more. */
  readonly onFenced?: () => void
  /** How long a read, and the call that it waits for, may take before it is refused. */
  readonly readMsMax?: number
  /** Etcd counts as away when a majority has not answered for so long: longer than a change of leader takes. */
  readonly awayAfterMs?: number
  /** While it is away nobody waits for it longer. */
  readonly waitAwayMsMax?: number
  /** While it is away reads are told what is known here, as old as that may be. */
  readonly staleReads?: boolean
  /** Told why etcd is away, and `undefined` when it is back. */
  readonly onAway?: (reason: string | undefined) => void
  /** How long a transaction may take, all its runs together, before it is refused. */
  readonly transactMsMax?: number
  /** How long etcd may be away when the store starts. */
  readonly startMsMax?: number
  /** Ends that wait: the start rejects with its reason. */
  readonly startSignal?: AbortSignal | undefined
  /** Bytes of one request that etcd takes (`--max-request-bytes`), less what it needs itself. */
  readonly requestBytesMax?: number
  /** Between two writes of the replica that nobody waits for. */
  readonly replicaPauseMs?: number
}

export interface EtcdStoreSettings extends StageSettings {
  readonly prefix: string
  readonly node: number
  readonly fillRandom: (bytes: Uint8Array) => void
  readonly onFenced: () => void
  readonly readMsMax: number
  readonly awayAfterMs: number
  readonly waitAwayMsMax: number
  readonly staleReads: boolean
  readonly onAway: (reason: string | undefined) => void
  readonly transactMsMax: number
  readonly startMsMax: number
  readonly startSignal: AbortSignal | undefined
  readonly requestBytesMax: number
  readonly replicaPauseMs: number
}

export function etcdStoreSettings(options: EtcdStoreOptions): EtcdStoreSettings {
  const {
    etcd: _etcd,
    replica: _replica,
    incarnation: _incarnation,
    prefix = '/tidegate/',
    node,
    fillRandom = (bytes: Uint8Array): void => void randomFillSync(bytes),
    onFenced = (): void => {},
    readMsMax = 10_000,
    awayAfterMs = 5_000,
    waitAwayMsMax = 1_000,
    staleReads = false,
    onAway = (): void => {},
    transactMsMax = 20_000,
    startMsMax = 30_000,
    startSignal,
    requestBytesMax = 1.5 * MIB - 16 * 1024,
    replicaPauseMs = 20,
    ...stage
  } = options
  const settings = {
    ...stageSettings({ clock: systemClock, operationsMax: 4096, bytesMax: Math.floor(1.4 * MIB), ...stage }),
    prefix,
    node,
    fillRandom,
    onFenced,
    readMsMax,
    awayAfterMs,
    waitAwayMsMax,
    staleReads,
    onAway,
    transactMsMax,
    startMsMax,
    startSignal,
    requestBytesMax,
    replicaPauseMs,
  }
  assert(Number.isInteger(node) && node >= 0 && node < 2 ** 32, 'a node has a number of 4 bytes')
  assert(settings.bytesMax < settings.requestBytesMax, 'a transaction fits a request')
  return settings
}
