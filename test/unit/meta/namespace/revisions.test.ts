/** What a version says of its revision, whatever became of the commits before it. */
import { expect, test } from 'vitest'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { fixture, publishRequest } from './fixture.ts'

test('C3: a version carries the revision of its commit, also the first one after commits were undone', async () => {
  const backend = new MemoryBackend()
  const made = await fixture({ backend })
  await made.bucket('box')
  await made.namespace.flush()
  backend.failCommits(() => new Error('EIO'))
  const undone = await made.namespace.publish(publishRequest('box', 'a', { bytes: 'undone' }))
  await expect(undone.durable).rejects.toMatchObject({ code: 'Unavailable' })
  backend.failCommits()
  const kept = await made.namespace.publish(publishRequest('box', 'a', { bytes: 'kept' }))
  await kept.durable
  const found = await made.namespace.lookup('box', 'a')
  expect(undone.value.revision).toBe(undone.revision)
  expect(kept.value.revision).toBe(kept.revision)
  expect(found.revision).toBe(kept.revision)
  // Who was told of the one that is gone must not overwrite what came instead.
  const stale = made.namespace.publish(
    publishRequest('box', 'a', { conditions: { ifMatchRevisions: [undone.value.revision] } }),
  )
  await expect(stale).rejects.toMatchObject({ code: 'PreconditionFailed' })
  await made.stop()
})
