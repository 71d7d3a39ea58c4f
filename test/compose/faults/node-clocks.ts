/**
 * Wall clocks of single containers that can be made to jump. The kernel has one for all, so a library is preloaded (clock.c) that moves what the
 * gateway's process sees. Etcd is written in Go, asks the kernel itself and keeps the true time; the gateway starts it without this library anyway.
 */
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must } from '../../../src/common/assert.ts'
import { onHost } from './host-command.ts'

const SOURCE = join(import.meta.dirname, 'clock.c')
const IN_CONTAINER = '/clock'
const LIBRARY = 'clock.so'
const OFFSET = 'offset'

export class NodeClocks {
  readonly #directory: string
  /** File descriptors by service. */
  readonly #offsets: ReadonlyMap<string, number>

  private constructor(directory: string, offsets: ReadonlyMap<string, number>) {
    this.#directory = directory
    this.#offsets = offsets
  }

  /** For these services of a project, which is brought up with `override`. Takes a C compiler. */
  static async make(services: readonly string[]): Promise<NodeClocks> {
    const directory = mkdtempSync(join(tmpdir(), 'tidegate-clocks-'))
    const library = join(directory, LIBRARY)
    await onHost(['cc', '-shared', '-fPIC', '-O2', '-Wall', '-Werror', '-o', library, SOURCE])
    chmodSync(library, 0o755)
    const offsets = new Map<string, number>()
    for (const service of services) {
      mkdirSync(join(directory, service))
      offsets.set(service, openSync(join(directory, service, OFFSET), 'w', 0o644))
    }
    const clocks = new NodeClocks(directory, offsets)
    for (const service of services) clocks.jump(service, 0)
    return clocks
  }

  get services(): string[] {
    return [...this.#offsets.keys()]
  }

  /** Of the compose file. */
  get override(): object {
    const mount = (source: string, name: string): object => ({
      type: 'bind',
      source,
      target: `${IN_CONTAINER}/${name}`,
      read_only: true,
    })
    const services = this.services.map((service) => [
      service,
      {
        environment: {
          LD_PRELOAD: `${IN_CONTAINER}/${LIBRARY}`,
          CLOCK_OFFSET_FILE: `${IN_CONTAINER}/${OFFSET}`,
        },
        volumes: [
          mount(join(this.#directory, LIBRARY), LIBRARY),
          mount(join(this.#directory, service, OFFSET), OFFSET),
        ],
      },
    ])
    return { services: Object.fromEntries(services) as object }
  }

  /** At once, to that far from the true time; also of what is started there later. */
  jump(service: string, fromTrueTimeMs: number): void {
    const offset = must(this.#offsets.get(service), `clock of ${service}`)
    const nanoseconds = new BigInt64Array([BigInt(fromTrueTimeMs) * 1_000_000n])
    // In place: containers have this very file.
    writeSync(offset, nanoseconds, 0, nanoseconds.byteLength, 0)
  }

  remove(): void {
    for (const offset of this.#offsets.values()) closeSync(offset)
    rmSync(this.#directory, { recursive: true })
  }
}
