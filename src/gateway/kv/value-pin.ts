/** `?pin=`: holding a value in this node's memory for a time. */
import { isTidegateError } from '../../common/errors.ts'
import type { ObjectVersion } from '../../common/model.ts'
import type { ValueCall } from './value-call.ts'

/** @throws StorageFull when no more may be pinned: whoever asks for that is told, and may ask without it */
export async function pinOnRead(call: ValueCall, version: ObjectVersion, headers: string[]): Promise<void> {
  const { pin } = call.parameters
  if (pin === undefined) return
  // What lies in the metadata is in memory as long as that is, and takes none of the share that may be pinned.
  const bytes = version.body.kind === 'inline' ? 0 : await hold(call, version.versionId, pin)
  headers.push('x-tidegate-pinned', String(bytes))
}

/** The value is published by now: what keeps it from being pinned must not look like a put that failed. */
export async function pinOnWrite(call: ValueCall, versionId: string | undefined, headers: string[]): Promise<void> {
  const { pin } = call.parameters
  if (pin === undefined) return
  let bytes = 0
  try {
    bytes = await hold(call, versionId, pin)
  } catch (error) {
    if (!isTidegateError(error)) throw error
    call.door.logger.debug({ error, requestId: call.exchange.requestId }, 'a new value could not be pinned')
  }
  headers.push('x-tidegate-pinned', String(bytes))
}

async function hold(call: ValueCall, versionId: string | undefined, seconds: number): Promise<number> {
  const { bytes } = await call.store.keyValues.pin({ ...call.address, versionId }, seconds * 1000)
  return bytes
}
