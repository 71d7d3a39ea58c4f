/** What is told to who waits for the external bucket. */
import { TidegateError } from '../common/errors.ts'

export function gone(): TidegateError {
  return new TidegateError('Unavailable', 'carrying out was given up')
}

/** To who waits for the external bucket: what was written is published all the same. */
export function notCarriedOut(reason: string): TidegateError {
  return new TidegateError('Unavailable', `the write is published, and not in the external bucket yet: ${reason}`, {
    details: { published: true },
  })
}

export function notWhilePaused(): TidegateError {
  return notCarriedOut('flushing is paused ("tidegate flush resume" ends that)')
}

export function conflicted(key: string): TidegateError {
  return new TidegateError(
    'PreconditionFailed',
    `${JSON.stringify(key)} was changed in the external bucket meanwhile`,
    {
      details: { key, published: true },
    },
  )
}
