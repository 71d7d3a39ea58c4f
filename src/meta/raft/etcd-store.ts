import { LogKeeper } from '../stage/log-keeper.ts'
import { etcdStoreSettings, type EtcdStoreOptions } from './etcd-options.ts'
import { EtcdStage } from './etcd-stage.ts'
import type { SharedStore } from './figures.ts'
import { byteString, EtcdLayout, type Incarnation } from './layout.ts'
import { Replica } from './replica.ts'
import { Session } from './session.ts'

/** The ordered store of several nodes: rows in etcd, and a copy of all of them here. */
export function createEtcdStore(options: EtcdStoreOptions): SharedStore {
  const { etcd, replica: backend } = options
  const settings = etcdStoreSettings(options)
  const { clock, node } = settings
  const layout = new EtcdLayout(settings.prefix)
  const log = new LogKeeper(backend, settings)
  const replica = new Replica({
    backend,
    log,
    clock,
    writePauseMs: settings.replicaPauseMs,
    unwrittenRowsMax: settings.backlogRowsMax,
    unwrittenBytesMax: settings.backlogBytesMax,
  })
  const incarnation = options.incarnation ?? newIncarnation(settings.fillRandom)
  const session = new Session({ etcd, layout, clock, node, incarnation })
  return new EtcdStage({
    etcd,
    layout,
    settings,
    replica,
    log,
    session,
    incarnation,
    keyBytesMax: backend.keyBytesMax,
  })
}

export function newIncarnation(fillRandom: (bytes: Uint8Array) => void): Incarnation {
  const random = new Uint8Array(8)
  fillRandom(random)
  return byteString(random)
}
