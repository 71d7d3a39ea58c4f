import { TidegateError } from '../../common/errors.ts'

/** To who waits for the remote store: what was written is published all the same. */
export function notPersisted(reason: string): TidegateError {
  return new TidegateError('Unavailable', `the write is published, and not in the remote store yet: ${reason}`, {
    details: { published: true },
  })
}

export function notWhilePaused(): TidegateError {
  return notPersisted('flushing is paused ("tidegate flush resume" ends that)')
}
