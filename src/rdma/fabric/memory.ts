/** Memory of this node that the fabric knows: where bytes lie that are sent, and where those go that arrive. */
import type { FabricDevice, Region, RegionAccess } from './ports.ts'

/** Shared memory: no other kind is sure to stay where it is. What is not shared can be transferred away from under the hardware. */
export function fixedMemory(bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(bytes))
}

export interface Place {
  readonly region: Region
  readonly offset: number
}

export class KnownMemory {
  readonly #device: FabricDevice
  readonly #regions = new Map<ArrayBufferLike, Region>()

  constructor(device: FabricDevice) {
    this.#device = device
  }

  /** All of it. @throws FabricFailure */
  add(memory: ArrayBufferLike, access: RegionAccess): Region {
    const region = this.#device.register(new Uint8Array(memory), access)
    this.#regions.set(memory, region)
    return region
  }

  /** Undefined: the fabric does not know it. */
  find({ buffer, byteOffset }: Uint8Array): Place | undefined {
    const region = this.#regions.get(buffer)
    return region && { region, offset: byteOffset }
  }

  close(): void {
    for (const region of this.#regions.values()) region.close()
    this.#regions.clear()
  }
}
