/** What a channel to a member is opened with. Certificates are files, read again when they have changed, so that they can be renewed in place. */
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { checkServerIdentity } from 'node:tls'
import type { PeerCertificate } from 'node:tls'
import { credentials as grpcCredentials } from '@grpc/grpc-js'
import type { ChannelCredentials, ChannelOptions } from '@grpc/grpc-js'
import type { Clock } from '../../../common/clock.ts'

export interface TlsFiles {
  /** Who may have signed the members' certificates; the system's authorities if not given. */
  readonly authorityPath?: string | undefined
  /** The client's own certificate, and its key. */
  readonly certificatePath?: string | undefined
  readonly keyPath?: string | undefined
}

const NO_NAME = 'member.invalid'
/** Looked at so often, and only when a channel is used. */
const LOOK_EVERY_MS = 10_000

export class Certificates {
  readonly #files: TlsFiles
  readonly #clock: Clock
  #lookedMs = -Infinity
  #stamp = ''
  #generation = 0

  constructor(files: TlsFiles, clock: Clock) {
    this.#files = files
    this.#clock = clock
  }

  /** Grows when a file has changed. */
  generation(): number {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - this.#lookedMs < LOOK_EVERY_MS) return this.#generation
    this.#lookedMs = nowMs
    const { authorityPath, certificatePath, keyPath } = this.#files
    const stamp = [authorityPath, certificatePath, keyPath].map(stampOf).join(' ')
    if (stamp !== this.#stamp) this.#generation += 1
    this.#stamp = stamp
    return this.#generation
  }

  /** For a channel to that host. @throws what reading a file throws */
  credentials(host: string): { credentials: ChannelCredentials; channelOptions: ChannelOptions } {
    const read = (path: string | undefined): Buffer | null => (path === undefined ? null : readFileSync(path))
    const { authorityPath, certificatePath, keyPath } = this.#files
    const files = [read(authorityPath), read(keyPath), read(certificatePath)] as const
    if (isIP(host) === 0) return { credentials: grpcCredentials.createSsl(...files), channelOptions: {} }
    // The channel sends the host as the name of the server, which must not be an address (RFC 6066, 3), and Node refuses to. So it is given a name
    // that is nobody's, and the certificate is held against the address.
    const verify = { checkServerIdentity: (_: string, peer: PeerCertificate) => checkServerIdentity(host, peer) }
    const channelOptions = { 'grpc.ssl_target_name_override': NO_NAME }
    return { credentials: grpcCredentials.createSsl(...files, verify), channelOptions }
  }
}

/** A file that is being replaced is missing for a moment: it is looked at again. */
function stampOf(path: string | undefined): string {
  const found = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false })
  return found === undefined ? '-' : `${found.ino}/${found.mtimeMs}/${found.size}`
}
