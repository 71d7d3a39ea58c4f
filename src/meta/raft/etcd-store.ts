import { LogKeeper } from '../stage/log-keeper.ts'
import type { EmbeddedStore } from '../stage/ports.ts'
import { Barrier } from './barrier.ts'
import { etcdStoreSettings, type EtcdStoreOptions } from './etcd-options.ts'
import { EtcdStage } from './etcd-stage.ts'
import { byteString, EtcdLayout } from './layout.ts'
import { Replica } from './replica.ts'
import { Session } from './session.ts'

/** The ordered store of several nodes: rows in etcd, and a copy of all of them here. */
export function createEtcdStore(options: EtcdStoreOptions): EmbeddedStore {
  const { etcd, replica: backend } = options
  const settings = etcdStoreSettings(options)
  const { clock, node, readMsMax } = settings
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
  const random = new Uint8Array(8)
  settings.fillRandom(random)
  const incarnation = byteString(random)
  const session = new Session({ etcd, layout, clock, node, incarnation })
  return new EtcdStage({
    etcd,
    layout,
    settings,
    replica,
    log,
    session,
    incarnation,
    barrier: new Barrier({ etcd, layout, clock, retryMsMax: readMsMax }),
    keyBytesMax: backend.keyBytesMax,
  })
}
