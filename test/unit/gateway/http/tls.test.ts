// needs: openssl
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { get } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { silentLogger } from '../../../../src/common/logging.ts'
import { Secret } from '../../../../src/common/secret.ts'
import { RequestMetrics } from '../../../../src/gateway/http/request-metrics.ts'
import { createDoorServer } from '../../../../src/gateway/http/server.ts'
import { makeCertificate } from '../../../support/certificate.ts'

const folder = mkdtempSync(join(tmpdir(), 'tidegate-tls-'))
const paths = makeCertificate(folder)
const certificate = readFileSync(paths.certificate, 'utf8')

afterAll(() => rmSync(folder, { recursive: true }))

it('speaks https with a certificate, and drops who speaks something else', async () => {
  const server = createDoorServer({
    name: 's3',
    host: '127.0.0.1',
    port: 0,
    tls: { certificate, key: new Secret(readFileSync(paths.key, 'utf8')) },
    logger: silentLogger,
    metrics: new RequestMetrics(),
    ready: () => true,
    handler: (request, response) => {
      response.end(`over ${'encrypted' in request.socket ? 'TLS' : 'nothing'}`)
      return Promise.resolve()
    },
  })
  await server.start()
  try {
    expect(server.url).toBe(`https://127.0.0.1:${server.port}`)
    const answered = await new Promise<string>((resolve, reject) => {
      get(`${server.url}/b/k`, { ca: certificate, agent: false }, (response) => {
        let text = ''
        response.on('data', (chunk: Buffer) => (text += chunk.toString()))
        response.on('end', () => resolve(text))
      }).on('error', reject)
    })
    expect(answered).toBe('over TLS')
    const plain = connect(server.port, '127.0.0.1')
    plain.on('error', () => undefined)
    plain.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    await new Promise((resolve) => {
      plain.resume().once('close', resolve)
    })
  } finally {
    await server.stop()
  }
})
