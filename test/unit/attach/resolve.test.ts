/** Decisions on conflicts, over the real namespace. */
import { expect, test } from 'vitest'
import { carryOut } from '../../../src/attach/carry-out.ts'
import { resolve } from '../../../src/attach/conflicts.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { MemoryBucket } from '../../support/memory-bucket.ts'
import { attachedFixture, BUCKET } from '../meta/namespace/attached/fixture.ts'

test('theirs is theirs with all that describes it, also when ours was as long', async () => {
  const made = await attachedFixture()
  const clock = new HandClock()
  const external = new MemoryBucket({ clock })
  const attached = { record: made.attachment, external, capabilities: external.capabilities }
  const contents = { open: () => ({ bytes: () => expect.unreachable(), close: () => undefined }) }
  const parts = { names: made.mirror, contents, clock, fillRandom: () => undefined }
  await made.put('a', { bytes: 'ours!!' })
  const etag = external.outsidePut('a', 'theirs', { headers: { contentType: 'text/theirs' } })
  const outcome = await carryOut(parts, { attached, key: 'a', signal: new AbortController().signal })
  expect(outcome).toMatchObject({ kind: 'conflict', ended: 'listed' })
  await resolve(parts, attached, { key: 'a', keep: 'theirs' })
  expect(await made.namespace.lookup(BUCKET, 'a')).toMatchObject({
    etag,
    attributes: { headers: { contentType: 'text/theirs' } },
    body: { kind: 'external' },
  })
  expect(await made.dirty()).toEqual([])
  await made.stop()
})
