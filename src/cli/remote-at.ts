/** The remote store that a command works on by itself, without a gateway. */
import { ValueError, PARSERS } from '../config/values.ts'
import { nodeFileSystem } from '../persist/node-file-system.ts'
import type { RemoteStore } from '../persist/remote/ports.ts'
import { UsageError } from './command.ts'

/** What stands on the command line, or else in the environment. The SDK is loaded only when it is needed. @throws UsageError */
export async function remoteAt(
  flag: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<RemoteStore> {
  const text = flag ?? env['TIDEGATE_REMOTE'] ?? ''
  if (text === '') throw new UsageError('--remote is missing: the URL of the remote store')
  const location = ((): ReturnType<typeof PARSERS.remote> => {
    try {
      return PARSERS.remote(text)
    } catch (error) {
      if (error instanceof ValueError) throw new UsageError(`--remote is not ${error.message}`)
      throw error
    }
  })()
  if (location.kind === 's3') {
    const { createS3Store } = await import('../persist/remote/s3-store.ts')
    return createS3Store(location, { fileSystem: nodeFileSystem })
  }
  const { DirectoryStore } = await import('../persist/remote/directory-store.ts')
  return new DirectoryStore({ directory: location.directory, fileSystem: nodeFileSystem })
}
