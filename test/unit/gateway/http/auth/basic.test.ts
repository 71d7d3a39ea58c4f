import { expect, test } from 'vitest'
import { createBasicVerifier } from '../../../../../src/gateway/http/auth/basic.ts'
import type { Principal, UserDirectory } from '../../../../../src/store/access.ts'

const ALICE: Principal = { id: 'a11ce', displayName: 'alice', kind: 'user' }
const BOB: Principal = { id: 'b0b', displayName: 'bob', kind: 'user' }

function basic(text: string): string {
  return `Basic ${Buffer.from(text).toString('base64')}`
}

function directory(): { secrets: Map<string, string>; users: UserDirectory } {
  const secrets = new Map([
    ['alice', 'secret'],
    ['bob', 'x'.repeat(300)],
  ])
  const findByAccessKey: UserDirectory['findByAccessKey'] = (accessKey) => {
    const secretKey = secrets.get(accessKey)
    return secretKey === undefined ? undefined : { principal: accessKey === 'alice' ? ALICE : BOB, secretKey }
  }
  return { secrets, users: { findByAccessKey } }
}

test('who was proven once is found again, whoever came between, long headers too', () => {
  const { secrets, users } = directory()
  const verifier = createBasicVerifier(users)
  const bob = basic(`bob:${secrets.get('bob')}`)
  for (let i = 0; i < 3; i++) {
    expect(verifier.verify(basic('alice:secret'))).toBe(ALICE)
    expect(verifier.verify(basic('alice:secret'))).toBe(ALICE)
    expect(verifier.verify(bob)).toBe(BOB)
  }
})

test('nothing but the very header is taken for one that was proven (lesson 5.1.10)', () => {
  const { users } = directory()
  const verifier = createBasicVerifier(users)
  const right = basic('alice:secret')
  expect(verifier.verify(right)).toBe(ALICE)
  const wrong = [
    '',
    right.slice(0, -1),
    `${right}\0`,
    `${right} `,
    basic('alice:secreT'),
    basic('alice:secret\0'),
    '\0',
  ]
  for (let i = 0; i < 2; i++) for (const header of wrong) expect(verifier.verify(header), header).toBeUndefined()
  expect(verifier.verify(right)).toBe(ALICE)
})

test('what was proven ends with the user, and with the secret', () => {
  const { secrets, users } = directory()
  const verifier = createBasicVerifier(users)
  const bob = basic(`bob:${secrets.get('bob')}`)
  expect(verifier.verify(bob)).toBe(BOB)
  expect(verifier.verify(basic('alice:secret'))).toBe(ALICE)
  secrets.set('alice', 'another')
  expect(verifier.verify(basic('alice:secret'))).toBeUndefined()
  expect(verifier.verify(basic('alice:another'))).toBe(ALICE)
  secrets.clear()
  expect(verifier.verify(bob)).toBeUndefined()
  expect(verifier.verify(basic('alice:another'))).toBeUndefined()
})
