/** Every key of the ledger, read back through both doors' engine and held against what it may hold. */
import { GetObjectCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import { BrokenPromise, digest, type Content, type Ledger, type Safety } from './ledger.ts'
import { BUCKET } from './mixed-load.ts'

const READERS = 4
const READ_MS_MAX = 60_000

/**
 * Nobody writes meanwhile. A listing is compared too: it names what is there, once, and nothing else.
 * @returns how many keys were compared
 * @throws BrokenPromise naming the first key that is not as it may be
 */
export async function readBack(client: S3Client, ledger: Ledger, safety: Safety): Promise<number> {
  const waiting = ledger.keys
  const count = waiting.length
  const there = new Set<string>()
  const reader = async (): Promise<void> => {
    for (let key = waiting.pop(); key !== undefined; key = waiting.pop()) {
      const content = await contentOf(client, key)
      ledger.found(key, content, safety)
      if (content !== undefined) there.add(key)
    }
  }
  await Promise.all(Array.from({ length: READERS }, reader))
  const listed = await listKeys(client)
  if (new Set(listed).size !== listed.length) throw new BrokenPromise('a listing names a key twice')
  const odd = [...new Set(listed).symmetricDifference(there)]
  if (odd.length > 0) throw new BrokenPromise(`listing and reading differ about ${odd.slice(0, 5).join(', ')}`)
  return count
}

async function contentOf(client: S3Client, key: string): Promise<Content> {
  try {
    const signal = { abortSignal: AbortSignal.timeout(READ_MS_MAX) }
    const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }), signal)
    return digest((await Body?.transformToByteArray()) ?? Buffer.alloc(0))
  } catch (error) {
    if ((error as Error).name === 'NoSuchKey') return undefined
    throw new BrokenPromise(`${key} cannot be read: ${(error as Error).name}: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

async function listKeys(client: S3Client): Promise<string[]> {
  const keys: string[] = []
  for (let token: string | undefined, more = true; more;) {
    const page = await client.send(new ListObjectsV2Command({ Bucket: BUCKET, ContinuationToken: token }))
    keys.push(...(page.Contents ?? []).map(({ Key = '' }) => Key))
    token = page.NextContinuationToken
    more = token !== undefined
  }
  return keys
}
