import type { OrderedStore } from '../../src/meta/ports.ts'
import type { OrderedStoreHarness } from './ordered-store-rows.ts'

/** `make` starts a store over `storage`; `newStorage` and `removeStorage` are its life. */
export function harness<Storage>(kind: {
  newStorage(): Promise<Storage>
  make(storage: Storage, options: Parameters<OrderedStoreHarness['create']>[0]): OrderedStore
  removeStorage(storage: Storage): Promise<void>
}): OrderedStoreHarness {
  const stores = new Map<OrderedStore, { storage: Storage; options: Parameters<OrderedStoreHarness['create']>[0] }>()
  const storages: Storage[] = []
  const start = async (
    storage: Storage,
    options: Parameters<OrderedStoreHarness['create']>[0],
  ): Promise<OrderedStore> => {
    const store = kind.make(storage, options)
    await store.start()
    stores.set(store, { storage, options })
    return store
  }
  return {
    create: async (options) => {
      const storage = await kind.newStorage()
      storages.push(storage)
      return start(storage, options)
    },
    reopen: async (store) => {
      const { storage, options } = stores.get(store)!
      await store.stop()
      return start(storage, options)
    },
    dispose: async () => {
      for (const store of stores.keys()) await store.stop()
      for (const storage of storages.splice(0)) await kind.removeStorage(storage)
      stores.clear()
    },
  }
}
