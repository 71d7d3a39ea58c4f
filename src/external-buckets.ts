/** How buckets of external stores are reached that are attached, as the engine wants it. Part of the composition root. */
import type { ExternalPlace, NamedPlace } from './attach/external-places.ts'
import type { ExternalBucket } from './attach/ports.ts'
import { TidegateError } from './common/errors.ts'
import type { Config } from './config/parse.ts'
import { parseAttachmentUrl, type AttachmentLocation } from './config/remote-location.ts'
import type { EngineAttach } from './engine-attach.ts'

export function externalBuckets(
  config: Pick<Config, 'remote' | 'region' | 'remoteConcurrency' | 'remoteTimeout'>,
): EngineAttach {
  const { remote, region } = config
  return {
    placeOf: (url): ExternalPlace => locationOf(url),
    external: async (url): Promise<ExternalBucket> => {
      const location = locationOf(url)
      // The SDK takes a second and tens of MiB, which only those pay who want it.
      const { S3ExternalBucket } = await import('./persist/external/external-bucket.ts')
      return new S3ExternalBucket(location, {
        concurrency: config.remoteConcurrency,
        timeoutMs: config.remoteTimeout,
      })
    },
    reserved: remote?.kind === 's3' ? [{ name: '--remote', place: remote } satisfies NamedPlace] : [],
    region,
  }
}

/** @throws InvalidArgument */
function locationOf(url: string): AttachmentLocation {
  try {
    return parseAttachmentUrl(url)
  } catch (error) {
    const { message } = error as Error
    throw new TidegateError('InvalidArgument', `url: ${message}`, { cause: error, details: { argument: 'url' } })
  }
}
