/**
 * A volume that can be filled: an ext4 of its own in a file of this machine, by a loop device.
 *
 * It is mounted here too for as long as it is there, beside the container's mount of the same device, so that it can be filled and emptied whether or
 * not a container runs on it. The file has no name any more once the device has it: nothing of it outlives the device.
 */
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, rmdirSync, statfsSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onHost } from './host-command.ts'

/** Of the image: who owns the data of a node. */
const OWNER = 10_001
const BALLAST = '.ballast'
const FILL_TRIES_MAX = 100

export class SmallVolume {
  readonly device: string
  readonly #directory: string
  readonly #mounted: string
  #ballasts = 0

  private constructor(device: string, directory: string, mounted: string) {
    this.device = device
    this.#directory = directory
    this.#mounted = mounted
  }

  static async make(sizeBytes: number): Promise<SmallVolume> {
    const directory = mkdtempSync(join(tmpdir(), 'tidegate-volume-'))
    const image = join(directory, 'image')
    const mounted = join(directory, 'mounted')
    mkdirSync(mounted)
    closeSync(openSync(image, 'w'))
    truncateSync(image, sizeBytes)
    // No blocks are kept back for root: it is full for everybody at the same time.
    const owner = `root_owner=${OWNER}:${OWNER}`
    await onHost(['mkfs.ext4', '-q', '-m', '0', '-E', owner, image])
    const device = (await onHost(['losetup', '--find', '--show', image])).trim()
    rmSync(image)
    try {
      await onHost(['mount', '-t', 'ext4', device, mounted])
    } catch (error) {
      await onHost(['losetup', '--detach', device])
      throw error
    }
    rmdirSync(join(mounted, 'lost+found'))
    return new SmallVolume(device, directory, mounted)
  }

  /** What a compose file says of a volume under `volumes`. */
  get definition(): object {
    return { driver_opts: { type: 'ext4', device: this.device } }
  }

  /** Until not another block is left, or, where somebody goes on freeing some, after so many tries. May be called again. */
  async fill(): Promise<void> {
    let chunk = this.freeBytes()
    for (let tries = 0; tries < FILL_TRIES_MAX && chunk >= this.#blockBytes(); tries++) {
      // Another file each time: one that could not be allocated in full is left shorter.
      const ballast = join(this.#mounted, `${BALLAST}-${this.#ballasts++}`)
      const whole = await onHost(['fallocate', '-l', String(chunk), ballast]).then(
        () => true,
        () => false,
      )
      chunk = whole ? this.freeBytes() : Math.floor(chunk / 2)
    }
  }

  empty(): void {
    for (; this.#ballasts > 0; this.#ballasts--)
      rmSync(join(this.#mounted, `${BALLAST}-${this.#ballasts - 1}`), { force: true })
  }

  freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.#mounted)
    return bavail * bsize
  }

  /** Once no container uses it. */
  async remove(): Promise<void> {
    await onHost(['umount', this.#mounted])
    await onHost(['losetup', '--detach', this.device])
    rmSync(this.#directory, { recursive: true })
  }

  #blockBytes(): number {
    return statfsSync(this.#mounted).bsize
  }
}
