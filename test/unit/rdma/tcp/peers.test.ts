/** Connections to the other nodes: shared, made when wanted, made anew, and no more than needed. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { TcpTransport } from '../../../../src/rdma/tcp/tcp-transport.ts'
import { CertificateAuthority } from '../../../support/certificate-authority.ts'
import { incarnationOf, TcpNodes } from '../../../support/tcp-nodes.ts'
import { rawHello, RawSocket } from './raw-node.ts'

const NOTHING = new Uint8Array(0)
const SOON = { timeoutMs: 5_000 }
const LARGE = 1024 * 1024

let nodes: TcpNodes
beforeEach(() => (nodes = new TcpNodes()))
afterEach(() => nodes.stop())

async function serving(node: number, options: Parameters<TcpNodes['make']>[1] = {}): Promise<TcpTransport> {
  const transport = nodes.make(node, options)
  transport.serve('block', async ({ body }) => ({ head: Buffer.from(String(node)), pieces: [body] }))
  await transport.start()
  return transport
}

const block = { method: 'block', head: NOTHING } as const

describe('connections of a node', () => {
  it('are one for all small calls and one for all large ones, made when the first is wanted', async () => {
    const [one, two] = [await serving(1), await serving(2)]
    expect(one.figures.peers).toEqual([])
    const refusedBefore = two.figures.refused
    await Promise.all(Array.from({ length: 50 }, () => one.call(2, block, SOON)))
    await Promise.all(
      Array.from({ length: 10 }, () =>
        one.call(2, { ...block, pieces: [new Uint8Array(LARGE)] }, { ...SOON, into: new Uint8Array(LARGE) }),
      ),
    )
    const [peer] = one.figures.peers
    expect(peer).toMatchObject({ node: 2, connected: true, calls: 60, failures: 0 })
    expect(peer?.bytesOut).toBeGreaterThan(10 * LARGE)
    expect(peer?.bytesIn).toBeGreaterThan(10 * LARGE)
    expect(peer?.roundTripMs).toBeGreaterThan(0)
    expect(two.figures.refused).toEqual(refusedBefore)
    // The other way is another connection.
    expect(two.figures.peers).toMatchObject([{ node: 1, connected: false }])
    await two.call(1, block, SOON)
    expect(two.figures.peers).toMatchObject([{ node: 1, connected: true }])
  })

  it('are made anew when the node is another process', async () => {
    const one = await serving(1)
    const before = await serving(2)
    await one.call(2, block, SOON)
    await before.stop()
    await serving(2, { incarnation: incarnationOf(2, 1) })
    expect(Buffer.from((await one.call(2, block, SOON)).head).toString()).toBe('2')
  })

  it('end when a process that is still there is not the node any more', async () => {
    const one = await serving(1)
    const before = nodes.make(2)
    const reached = Promise.withResolvers<void>()
    before.serve('block', async () => {
      reached.resolve()
      return await new Promise(() => undefined)
    })
    await before.start()
    const call = one.call(2, block, SOON)
    call.catch(() => undefined)
    await reached.promise
    await serving(2, { incarnation: incarnationOf(2, 1) })
    await expect(call).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
    await one.call(2, block, SOON)
  })

  it('are not asked any more of a node that has left; what is under way may end', async () => {
    const one = await serving(1)
    const two = nodes.make(2)
    const go = Promise.withResolvers<void>()
    let asked = 0
    two.serve('block', async () => {
      asked++
      await go.promise
      return { head: NOTHING }
    })
    await two.start()
    const call = one.call(2, block, SOON)
    await expect.poll(() => asked).toBe(1)
    nodes.members.delete(2)
    one.viewChanged()
    await expect(one.call(2, block, SOON)).rejects.toMatchObject({ code: 'Unavailable' })
    go.resolve()
    await call
    expect(asked).toBe(1)
  })

  it('follow a secret that was made anew', async () => {
    let secret = Buffer.alloc(32, 1)
    const one = await serving(1, { secret: () => secret })
    await serving(2, { secret: () => Buffer.alloc(32, 2) })
    await expect(one.call(2, block, SOON)).rejects.toMatchObject({ code: 'Unavailable' })
    expect(nodes.members.size).toBe(2)
    secret = Buffer.alloc(32, 2)
    await one.call(2, block, SOON)
  })
})

describe('over TLS', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-tls-nodes-'))
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  const authority = new CertificateAuthority(directory)
  const signed = authority.sign('node')
  const tls = { ca: authority.certificate, cert: signed.certificate, key: signed.key }

  it('nothing is answered without a certificate, or in the clear', async () => {
    const one = await serving(1, { tls })
    await serving(2, { tls })
    await serving(3)
    await one.call(2, block, SOON)
    await expect(one.call(3, block, { timeoutMs: 2_000 })).rejects.toMatchObject({ code: 'Unavailable' })
    const clear = RawSocket.to(one.address).write(rawHello())
    await clear.closed
    expect(clear.held.toString('latin1')).not.toContain('TIDENODE')
    expect(one.figures.peers.find(({ node }) => node === 2)?.connected).toBe(true)
  })

  it('a certificate of another authority does not do, on either side', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'tidegate-tls-other-'))
    try {
      const other = new CertificateAuthority(elsewhere)
      const foreign = other.sign('node')
      const one = await serving(1, { tls })
      // It takes ours, and shows its own.
      const two = await serving(2, { tls: { ca: authority.certificate, cert: foreign.certificate, key: foreign.key } })
      await expect(one.call(2, block, SOON)).rejects.toMatchObject({ code: 'Unavailable' })
      await expect(two.call(1, block, SOON)).rejects.toMatchObject({ code: 'Unavailable' })
      // It refuses two's both as the one that connects and as the one that is connected to.
      await expect.poll(() => one.figures.refused.certificate).toBe(2)
      const bare = connectTls({
        host: '127.0.0.1',
        port: Number(one.address.split(':')[1]),
        ca: readFileSync(authority.certificate),
      })
      const closed = new Promise((resolve) => bare.on('error', () => undefined).on('close', resolve))
      bare.write(rawHello())
      await closed
      await expect.poll(() => one.figures.refused.certificate).toBe(3)
    } finally {
      rmSync(elsewhere, { recursive: true, force: true })
    }
  })

  it('a certificate alone does not do: the secret must be known too', async () => {
    const one = await serving(1, { tls })
    await serving(2, { tls, secret: () => Buffer.alloc(32, 9) })
    await expect(one.call(2, block, SOON)).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('somebody between who has a certificate, but not the secret, gets nothing by passing the proofs on', async () => {
    const one = await serving(1, { tls })
    const two = await serving(2, { tls })
    const files = {
      ca: readFileSync(tls.ca),
      cert: readFileSync(tls.cert),
      key: readFileSync(tls.key),
      rejectUnauthorized: false,
      requestCert: true,
    }
    const between = createTlsServer(files, (socket) => {
      const onward = connectTls({ host: '127.0.0.1', port: Number(two.address.split(':')[1]), ...files })
      for (const end of [socket, onward]) end.on('error', () => undefined)
      socket.pipe(onward).pipe(socket)
    })
    await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve))
    try {
      nodes.tell(2, `127.0.0.1:${(between.address() as AddressInfo).port}`)
      await expect(one.call(2, block, SOON)).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
      expect(two.figures.refused.secret).toBe(1)
    } finally {
      between.close()
    }
  })
})
