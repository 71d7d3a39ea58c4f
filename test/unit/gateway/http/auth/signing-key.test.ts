import { createHmac, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  deriveSigningKey,
  isSignature,
  SigningKey,
  SigningKeyCache,
} from '../../../../../src/gateway/http/auth/signing-key.ts'

const SCOPE = { date: '20150830', region: 'us-east-1', service: 'iam' }

describe('signing keys', () => {
  it('are derived as in the published example', () => {
    const key = deriveSigningKey('wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY', SCOPE)
    expect(key.toString('hex')).toBe('c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9')
  })

  it('sign as HMAC-SHA256 does, whatever the length', () => {
    const bytes = randomBytes(32)
    const key = new SigningKey(bytes)
    for (const length of [1024, 0, 1, 55, 56, 63, 64, 65, 500]) {
      const message = 'm'.repeat(length)
      expect(key.sign(message)).toBe(createHmac('sha256', bytes).update(message).digest('hex'))
    }
  })

  it('are remembered, boundedly, and forgotten with their secret', () => {
    const cache = new SigningKeyCache(3)
    const first = cache.get('a', 'secret', SCOPE)
    expect(cache.get('a', 'secret', SCOPE)).toBe(first)
    expect(cache.get('a', 'new secret', SCOPE)).not.toBe(first)
    expect(cache.get('a', 'secret', { ...SCOPE, service: 's3' })).not.toBe(first)
    const kept = cache.get('kept', 's', SCOPE)
    for (const name of ['b', 'c', 'd', 'e', 'f']) {
      cache.get(name, 's', SCOPE)
      expect(cache.get('kept', 's', SCOPE)).toBe(kept)
      expect(cache.size).toBeLessThanOrEqual(3)
    }
  })

  it('compare signatures whole', () => {
    const computed = 'ab'.repeat(32)
    expect(isSignature(computed, computed)).toBe(true)
    for (const wrong of ['', computed.slice(1), `${computed}a`, computed.toUpperCase(), `${computed.slice(1)}\u00e9`]) {
      expect(isSignature(computed, wrong)).toBe(false)
    }
  })
})
