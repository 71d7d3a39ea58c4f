import { expect, test } from 'vitest'
import type { NamespaceChange } from '../../../../src/meta/namespace/changes.ts'
import { fixture } from './fixture.ts'

test('C3, C10: puts, deletes, and a directory rename as one event', async () => {
  const made = await fixture()
  await made.bucket('box', 'enabled')
  const from = made.namespace.revision() + 1
  await made.put('box', 'a/b/1')
  await made.put('box', 'a/b/2')
  await made.put('box', 'a/b/')
  await made.namespace.setTags({ bucket: 'box', key: 'a/b/1' }, { x: 'y' })
  await made.namespace.rename({ bucket: 'box', from: 'a/b/', to: 'c/d/', replace: false })
  await made.namespace.rename({ bucket: 'box', from: 'c/d/1', to: 'é', replace: false })
  const plain = made.bucket('plain')
  await plain
  await made.put('plain', 'x/y/z/1')
  await made.remove('plain', 'x/y/z/1')
  await made.remove('box', 'c/d/2')
  await made.namespace.flush()
  const stopping = new AbortController()
  const events: NamespaceChange[] = []
  for await (const event of made.namespace.watch(from, stopping.signal)) {
    events.push(event)
    if (event.kind === 'delete' && event.bucket === 'box') break
  }
  stopping.abort()
  const revisions = events.map((event) => event.revision)
  expect(revisions).toEqual(revisions.toSorted((a, b) => a - b))
  expect(events.map(({ revision: _revision, ...event }) => event)).toEqual([
    // Read later than the rename, so by the paths of that time.
    { kind: 'put', bucket: 'box', key: 'c/d/1' },
    { kind: 'put', bucket: 'box', key: 'c/d/2' },
    { kind: 'put', bucket: 'box', key: 'c/d/' },
    { kind: 'renamed', bucket: 'box', from: 'a/b/', to: 'c/d/' },
    { kind: 'renamed', bucket: 'box', from: 'c/d/1', to: 'é' },
    { kind: 'put', bucket: 'plain', key: 'x/y/z/1' },
    { kind: 'delete', bucket: 'plain', key: 'x/y/z/1' },
    { kind: 'delete', bucket: 'box', key: 'c/d/2' },
  ])
  await made.stop()
})
