import { describe, expect, it } from 'vitest'
import { authenticate, createGate, refusal, signed, withHeaders } from './support.ts'
import type { GateOptions } from './support.ts'

describe('hosts and proxies (lessons 5.1.9 and 5.2.17)', () => {
  const request = signed('/b/k', { host: 's3.example.com' })
  const forwarded = {
    host: '127.0.0.1:9000',
    'x-forwarded-host': 's3.example.com',
    'x-forwarded-for': '198.51.100.9, 10.0.0.2',
    'x-forwarded-proto': 'https',
  }
  const through = (remoteAddress: string, options: GateOptions, headers: Record<string, string> = forwarded) =>
    authenticate({ ...withHeaders(request, headers), remoteAddress }, options)

  it('does not believe X-Forwarded-* from anyone', () => {
    refusal('SignatureDoesNotMatch', () => through('192.0.2.7', {}))
    refusal('SignatureDoesNotMatch', () => through('192.0.2.7', { trustedProxies: ['10.0.0.0/8'] }))
    const direct = through(
      '192.0.2.7',
      {},
      { host: 's3.example.com', 'x-forwarded-for': '10.9.9.9', 'x-forwarded-proto': 'https' },
    )
    expect(direct.origin).toEqual({ host: 's3.example.com', address: '192.0.2.7', secure: false })
  })

  it('believes a configured proxy, and of the chain only what proxies wrote', () => {
    const trustedProxies = ['10.0.0.0/8']
    for (const remote of ['10.0.0.1', '::ffff:10.0.0.1']) {
      expect(through(remote, { trustedProxies }).origin).toEqual({
        host: 's3.example.com',
        address: '198.51.100.9',
        secure: true,
      })
    }
    const spoofed = { ...forwarded, 'x-forwarded-for': '127.0.0.1, 198.51.100.9, 10.0.0.2' }
    expect(through('10.0.0.1', { trustedProxies }, spoofed).origin.address).toBe('198.51.100.9')
    const nonsense = { ...forwarded, 'x-forwarded-for': 'unknown, 10.0.0.2' }
    expect(through('10.0.0.1', { trustedProxies }, nonsense).origin.address).toBe('10.0.0.2')
  })

  it('accepts the external URL as a name for itself, and reports the host that was signed', () => {
    const passed = through('192.0.2.7', { externalUrl: 'https://s3.example.com' }, { host: 'internal:9000' })
    expect(passed.origin.host).toBe('s3.example.com')
    expect(() => createGate({ externalUrl: 'https://s3.example.com/path' })).toThrow(/external URL/)
    expect(() => createGate({ trustedProxies: ['10.0.0.0/33'] })).toThrow(/trusted proxy "10.0.0.0\/33"/)
  })
})
