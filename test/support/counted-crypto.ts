/**
 * node:crypto, whose costly calls are written down: what two refusals cost is compared by what they compute, not by the clock of a busy machine. For
 *
 *     vi.mock('node:crypto', async (original) => (await import('counted-crypto.ts')).countCrypto(await original()))
 */
import type * as NodeCrypto from 'node:crypto'

const calls: string[] = []

export function countCrypto(crypto: typeof NodeCrypto): typeof NodeCrypto {
  const counted = (name: 'hash' | 'createHash' | 'createHmac' | 'timingSafeEqual'): object => {
    const original = crypto[name] as (...given: unknown[]) => unknown
    const call = (...given: unknown[]): unknown => {
      // The algorithm and how many bytes, where they are given, and never what bytes.
      calls.push(
        [name, ...given.map((one) => (ArrayBuffer.isView(one) ? one.byteLength : lengthOf(name, one)))].join(' '),
      )
      return original(...given)
    }
    return { [name]: call }
  }
  return Object.assign(
    {},
    crypto,
    counted('hash'),
    counted('createHash'),
    counted('createHmac'),
    counted('timingSafeEqual'),
  )
}

/** What `work` computes. */
export async function cryptoCallsOf(work: () => unknown): Promise<readonly string[]> {
  calls.length = 0
  await work()
  return calls.splice(0)
}

const NAMES = /^(sha1|sha256|md5|hex|latin1|base64|buffer)$/

function lengthOf(name: string, given: unknown): unknown {
  if (typeof given !== 'string') return typeof given
  return NAMES.test(given) ? given : name === 'createHmac' ? 'key' : given.length
}
