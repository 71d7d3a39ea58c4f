// needs: openssl
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/parse.ts'
import { makeCertificate } from '../../support/certificate.ts'
import type { Config } from '../../../src/config/parse.ts'

function parse(argv: string[]): Config {
  const readFile = (path: string): string => readFileSync(path, 'utf8')
  return parseConfig({ argv, env: {}, readFile, machine: { memoryBytes: 2 ** 30, cpuCount: 1 } })
}

it('wants a certificate and its key, and checks that they fit', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-tls-'))
  try {
    const { certificate, key } = makeCertificate(folder)
    const { tls } = parse(['--tls-cert', certificate, '--tls-key', key])
    expect(tls?.certificate).toContain('BEGIN CERTIFICATE')
    expect(tls?.key.reveal()).toContain('PRIVATE KEY')
    expect(() => parse(['--tls-cert', certificate])).toThrow('give both or neither')
    expect(() => parse(['--tls-key', key])).toThrow('give both or neither')
    const swapped = (): Config => parse(['--tls-cert', certificate, '--tls-key', certificate])
    expect(swapped).toThrow(`--tls-cert ${certificate} and --tls-key ${certificate} cannot be used`)
    const absent = join(folder, 'none')
    expect(() => parse(['--tls-cert', certificate, '--tls-key', absent])).toThrow(`--tls-key: cannot read ${absent}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
