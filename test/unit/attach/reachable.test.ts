import { expect, test } from 'vitest'
import type { Attached } from '../../../src/attach/attached.ts'
import { Reachable } from '../../../src/attach/reachable.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { TidegateError, type ErrorCode } from '../../../src/common/errors.ts'
import { badAnswer } from '../../../src/persist/remote/s3-errors.ts'

const attached = { record: { bucketId: 7, bucket: 'far' } } as unknown as Attached

const fails =
  (code: ErrorCode, status?: number): (() => Promise<never>) =>
  () =>
    Promise.reject(new TidegateError(code, 'it fails', { details: status === undefined ? {} : { status } }))
const works = (): Promise<string> => Promise.resolve('works')

test.each([undefined, 408, 429, 502, 503, 504])(
  'a store that answers %s is left alone for a moment',
  async (status) => {
    const reachable = new Reachable(systemClock)
    expect(await reachable.ask(attached, fails('Unavailable', status))).toHaveProperty('down')
    expect(await reachable.ask(attached, works)).toHaveProperty('down')
  },
)

test.each([400, 414, 500])('one key at which a store fails (%i) takes no other away', async (status) => {
  const reachable = new Reachable(systemClock)
  expect(await reachable.ask(attached, fails('Unavailable', status))).toHaveProperty('down')
  expect(await reachable.ask(attached, works)).toEqual({ value: 'works' })
})

test('one key of which a store says too little takes no other away', async () => {
  const reachable = new Reachable(systemClock)
  const says = (): Promise<never> => Promise.reject(badAnswer('look at k', 'no ETag'))
  expect(await reachable.ask(attached, says)).toHaveProperty('down')
  expect(await reachable.ask(attached, works)).toEqual({ value: 'works' })
})

test('a key that is too long outside is refused as such, and takes no other away', async () => {
  const reachable = new Reachable(systemClock)
  await expect(reachable.ask(attached, fails('KeyTooLong'))).rejects.toMatchObject({ code: 'KeyTooLong' })
  expect(await reachable.ask(attached, works)).toEqual({ value: 'works' })
})

test('refused credentials are Unavailable, and no reason to serve what is old', async () => {
  const reachable = new Reachable(systemClock)
  await expect(reachable.ask(attached, fails('AccessDenied', 403))).rejects.toMatchObject({ code: 'Unavailable' })
})
