import { afterEach, describe, expect, test } from 'vitest'
import { checkNamespace } from '../../../model/check-namespace.ts'
import { fixture, type Fixture } from './fixture.ts'

const open: Fixture[] = []

async function begin(versioning?: 'enabled'): Promise<Fixture> {
  const made = await fixture()
  open.push(made)
  await made.bucket('box', versioning)
  return made
}

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

async function keys(made: Fixture): Promise<string[]> {
  const page = await made.namespace.list({ bucket: 'box', prefix: '', delimiter: '', after: '', limit: 1000 })
  return page.objects.map((object) => object.key)
}

describe('C26: rename', () => {
  test('a directory moves with all below it, and leaves no empty parent', async () => {
    const made = await begin()
    for (const key of ['a/b/1', 'a/b/c/2', 'd']) await made.put('box', key)
    await made.namespace.lookup('box', 'a/b/1')
    await made.namespace.rename({ bucket: 'box', from: 'a/b/', to: 'x/y/', replace: false })
    expect(await keys(made)).toEqual(['d', 'x/y/1', 'x/y/c/2'])
    await expect(made.namespace.lookup('box', 'a/b/1')).rejects.toMatchObject({ code: 'NoSuchKey' })
    expect(await made.namespace.lookup('box', 'x/y/c/2')).toMatchObject({ key: 'x/y/c/2' })
  })

  test('not under itself, not over a directory, not across buckets, not from nothing', async () => {
    const made = await begin()
    await made.bucket('other')
    for (const key of ['a/1', 'b/2']) await made.put('box', key)
    const rename = (from: string, to: string, toBucket?: string): Promise<unknown> =>
      made.namespace.rename({ bucket: 'box', from, to, toBucket, replace: true })
    await expect(rename('a/', 'a/c/')).rejects.toMatchObject({ code: 'InvalidArgument' })
    await expect(rename('a/', 'b/')).rejects.toMatchObject({ code: 'InvalidArgument' })
    await expect(rename('a/', 'c/', 'other')).rejects.toMatchObject({ code: 'CrossBucket' })
    await expect(rename('z/', 'y/')).rejects.toMatchObject({ code: 'NoSuchKey' })
    await expect(rename('a/1', 'b/')).rejects.toMatchObject({ code: 'InvalidArgument' })
    expect(await keys(made)).toEqual(['a/1', 'b/2'])
  })

  test('an object moves with its versions', async () => {
    const made = await begin('enabled')
    const ids = []
    for (let i = 0; i < 5; i++) ids.unshift((await made.put('box', 'a/k', { run: await made.run(i + 1) })).versionId)
    await made.namespace.rename({ bucket: 'box', from: 'a/k', to: 'b/c/k', replace: false })
    const page = await made.namespace.listVersions({
      bucket: 'box',
      prefix: '',
      delimiter: '',
      keyMarker: '',
      versionIdMarker: undefined,
      limit: 100,
    })
    expect(page.versions.map((version) => [version.key, version.versionId])).toEqual(ids.map((id) => ['b/c/k', id]))
    await made.put('box', 'd')
    await expect(made.namespace.rename({ bucket: 'box', from: 'd', to: 'b/c/k', replace: true })).rejects.toMatchObject(
      { code: 'InvalidArgument' },
    )
  })

  test('an object is replaced only when asked', async () => {
    const made = await begin()
    await made.put('box', 'a', { run: await made.run(5) })
    await made.put('box', 'b', { run: await made.run(6) })
    await expect(made.namespace.rename({ bucket: 'box', from: 'a', to: 'b', replace: false })).rejects.toMatchObject({
      code: 'InvalidArgument',
    })
    await made.namespace.rename({ bucket: 'box', from: 'a', to: 'b', replace: true })
    expect(await made.namespace.lookup('box', 'b')).toMatchObject({ size: 5 })
    expect(await keys(made)).toEqual(['b'])
  })
})
