import type { RemoteObject, RemoteStore } from './ports.ts'

const PAGE_OBJECTS = 1000

/** Every object below a prefix, ascending by name, page by page. */
export async function* listAll(remote: RemoteStore, prefix: string): AsyncGenerator<RemoteObject> {
  for (let after: string | undefined; ;) {
    const page = await remote.list(prefix, after, PAGE_OBJECTS)
    yield* page
    after = page.at(-1)?.name
    if (after === undefined || page.length < PAGE_OBJECTS) return
  }
}
