/**
 * TLS between nodes: both ends show a certificate of one authority. Whose name stands in it does not matter, since the handshake that follows says which node it is
 * (handshake.ts); so one certificate may serve all nodes, and addresses may change. Files are read again when they have changed: connections made from then on have the new ones.
 */
import { readFileSync, statSync } from 'node:fs'
import type { ConnectionOptions, TlsOptions } from 'node:tls'

/** Each a path, or PEM. */
export interface TransportTls {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

const PEM = '-----BEGIN '

export class Certificates {
  readonly #tls: TransportTls
  #stamp = ''
  #read: Record<keyof TransportTls, string | Buffer> | undefined

  constructor(tls: TransportTls) {
    this.#tls = tls
  }

  /** Grows when the files have changed. */
  version = 0

  /** @throws what the file system throws, if they were never read */
  options(): ConnectionOptions & TlsOptions {
    const { ca, cert, key } = this.#current()
    return {
      ca,
      cert,
      key,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
      checkServerIdentity: () => undefined,
    }
  }

  #current(): Record<keyof TransportTls, string | Buffer> {
    const { ca, cert, key } = this.#tls
    try {
      const stamp = [ca, cert, key].map(stampOf).join(' ')
      if (this.#read !== undefined && stamp === this.#stamp) return this.#read
      this.#read = { ca: pem(ca), cert: pem(cert), key: pem(key) }
      this.#stamp = stamp
      this.version++
      return this.#read
    } catch (error) {
      // While they are being replaced, what was read before.
      if (this.#read === undefined) throw error
      return this.#read
    }
  }
}

function pem(pathOrPem: string): string | Buffer {
  return pathOrPem.startsWith(PEM) ? pathOrPem : readFileSync(pathOrPem)
}

function stampOf(pathOrPem: string): string {
  if (pathOrPem.startsWith(PEM)) return ''
  const { mtimeMs, size, ino } = statSync(pathOrPem)
  return `${mtimeMs}:${size}:${ino}`
}

/** Of a connection that ended in TLS's own handshake: for the certificate that the other end showed. */
export function isCertificateError(error: Error & { readonly code?: string }): boolean {
  return /CERT|VERIFY|ISSUER|SIGNATURE/.test(error.code ?? '')
}
