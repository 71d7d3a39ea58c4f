/**
 * One object, written through the peer: every other part of it was carried to the remote store, and the rest lies dirty on the peer alone and stays so. In each round the reader is asked for all of it, and for small
 * ranges beside, while the peer, the reader or the network between them fails at some moment; every byte is compared.
 */
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
  type CompletedPart,
  type S3Client,
} from '@aws-sdk/client-s3'
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../../src/common/assert.ts'
import { Random } from '../../model/random.ts'
import { sdkClient } from '../../support/sdk-client.ts'
import { drainFlusher } from '../../write-behind/remote/flush-command.ts'
import { drawFault, enact, FAULT_KINDS, ReaderPauses, type Fault, type FaultKind } from './faults.ts'
import { KnownContent } from './known-content.ts'
import { ObjectReader, type ByteRange, type ReadCounts } from './object-reader.ts'
import { BUCKET, PEER, READER, TwoGateways } from './two-gateways.ts'

export interface FaultRoundsOptions {
  /** Of the object. */
  readonly bytes: number
  readonly partBytes: number
  /** Of the object's content. */
  readonly seed: number
  /** Of both gateways. */
  readonly flags?: readonly string[]
}

export interface RoundOptions {
  readonly seed: number
  /** Otherwise as the seed says. */
  readonly kind?: FaultKind | undefined
  readonly lastsMsMax?: number
  readonly onStep?: ((step: string) => void) | undefined
}

/** Of the reader, unless it says otherwise. */
export interface Figures {
  /** By connections from the peer, with all that is said there. */
  readonly tcpBytes: number
  /** Read from the peer's memory. */
  readonly fabricBytes: number
  readonly fabricReads: number
  readonly fallbacks: number
  /** Answers of the peer whose checksums did not fit: they were not believed. */
  readonly badPages: number
  /** From the remote store, by either. */
  readonly remoteBytes: number
}

export interface RoundResult {
  readonly faults: readonly string[]
  readonly ms: number
  readonly reads: ReadCounts
  readonly figures: Figures
  /** When the round was over. */
  readonly isFabricUsed: boolean
}

const KEY = 'object'
const LASTS_MS_MAX = 8_000
const SECOND_FAULT_CHANCE = 0.25
/** For all of it, however often it breaks; what is under way then is still let end. */
const READ_MS = { first: 60_000, ofEachMib: 150 }
/** Of small ranges. Some only of what was carried: while the peer is gone they alone go on, and put memory to new uses that something late might still write to. */
const RANGE_READERS = ['any', 'carried', 'carried', 'carried'] as const
const RANGE_BYTES_MAX = 3 * 1024 * 1024
const RANGE_PAUSE_MS = 50
const UPLOADS_AT_ONCE = 3

export class FabricFaultRounds {
  readonly #options: FaultRoundsOptions
  readonly #content: KnownContent
  #gateways: TwoGateways | undefined

  constructor(options: FaultRoundsOptions) {
    this.#options = options
    this.#content = new KnownContent(options.bytes, options.seed)
  }

  async start(): Promise<void> {
    this.#gateways = await TwoGateways.start(this.#options.flags ?? [])
    await this.#upload()
    await this.#checkDirty()
  }

  async end(): Promise<void> {
    await this.#gateways?.end()
    this.#gateways = undefined
  }

  log(index: number): string {
    return must(this.#gateways, 'a start').log(index)
  }

  /** @throws BrokenRead, Error when one of the gateways does not get over it */
  async run({ seed, kind, lastsMsMax = LASTS_MS_MAX, onStep = () => undefined }: RoundOptions): Promise<RoundResult> {
    const gateways = must(this.#gateways, 'a start')
    // Where an earlier round has failed there may be nobody to read from.
    gateways.checkRunning()
    const random = new Random(seed)
    const faults = [drawFault(random, kind ?? random.pick(FAULT_KINDS), lastsMsMax)]
    if (kind === undefined && random.chance(SECOND_FAULT_CHANCE))
      faults.push(drawFault(random, random.pick(FAULT_KINDS), lastsMsMax))
    faults.sort((one, other) => one.atShare - other.atShare)
    const before = await this.#figures()
    const beganMs = performance.now()
    const reads = await this.#readUnder(faults, random, onStep)
    const ms = performance.now() - beganMs
    gateways.checkRunning()
    await this.#checkDirty()
    const after = await this.#figures()
    const figures = {
      tcpBytes: after.tcpBytes - before.tcpBytes,
      fabricBytes: after.fabricBytes - before.fabricBytes,
      fabricReads: after.fabricReads - before.fabricReads,
      fallbacks: after.fallbacks - before.fallbacks,
      badPages: after.badPages - before.badPages,
      remoteBytes: after.remoteBytes - before.remoteBytes,
    }
    return { faults: faults.map(describe), ms, reads, figures, isFabricUsed: after.isFabricUsed }
  }

  async #readUnder(faults: readonly Fault[], random: Random, onStep: (step: string) => void): Promise<ReadCounts> {
    const gateways = must(this.#gateways, 'a start')
    const pauses = new ReaderPauses()
    const reader = new ObjectReader({
      doors: () => gateways.of(READER),
      target: `/${BUCKET}/${KEY}`,
      content: this.#content,
      excusedMs: pauses.ms,
    })
    const deadlineMs = performance.now() + READ_MS.first + (READ_MS.ofEachMib * this.#options.bytes) / 2 ** 20
    const ending = new AbortController()
    const { signal } = ending
    const waiting = [...faults]
    let failing: Promise<void> = Promise.resolve()
    const onBytes = (offset: number): void => {
      const reached = waiting.filter(({ atShare }) => offset >= atShare * this.#options.bytes)
      waiting.splice(0, reached.length)
      for (const fault of reached) {
        failing = failing.then(() => this.#fail(fault, pauses, onStep))
        // It is awaited when all was read, which would take for ever now.
        failing.catch(() => ending.abort())
      }
    }
    const whole = reader.read({ from: 0, to: this.#options.bytes }, { deadlineMs, onBytes, signal })
    const beside = RANGE_READERS.map(async (which) => {
      while (!signal.aborted) {
        await reader.read(this.#range(random, which), { deadlineMs, signal })
        await sleep(RANGE_PAUSE_MS)
      }
    })
    const all = [whole.then(() => failing).finally(() => ending.abort()), ...beside]
    try {
      await Promise.all(all)
    } finally {
      ending.abort()
      await Promise.allSettled([...all, failing])
    }
    return reader.counts
  }

  async #fail(fault: Fault, pauses: ReaderPauses, onStep: (step: string) => void): Promise<void> {
    onStep(describe(fault))
    await enact(must(this.#gateways, 'a start'), fault, pauses)
    onStep('that is over')
  }

  #range(random: Random, which: (typeof RANGE_READERS)[number]): ByteRange {
    const { bytes, partBytes } = this.#options
    const part = random.below(Math.ceil(bytes / partBytes / 2)) * 2 * partBytes
    const within = which === 'any' ? { from: 0, to: bytes } : { from: part, to: Math.min(bytes, part + partBytes) }
    const length = 1 + Math.floor(random.next() ** 3 * Math.min(within.to - within.from, RANGE_BYTES_MAX))
    const from = within.from + random.below(within.to - within.from - length + 1)
    return { from, to: from + length }
  }

  async #upload(): Promise<void> {
    const gateways = must(this.#gateways, 'a start')
    const client = sdkClient(gateways.of(PEER))
    try {
      const { UploadId = '' } = await client.send(new CreateMultipartUploadCommand({ Bucket: BUCKET, Key: KEY }))
      const clean = await this.#uploadParts(client, UploadId, 0)
      await drainFlusher(gateways.of(PEER))
      gateways.door.isHeld = true
      const dirty = await this.#uploadParts(client, UploadId, 1)
      const Parts = [...clean, ...dirty].sort((one, other) => (one.PartNumber ?? 0) - (other.PartNumber ?? 0))
      const whole = { Bucket: BUCKET, Key: KEY, UploadId, MultipartUpload: { Parts } }
      await client.send(new CompleteMultipartUploadCommand(whole))
    } finally {
      client.destroy()
    }
  }

  /** Every other one. */
  async #uploadParts(client: S3Client, UploadId: string, first: number): Promise<CompletedPart[]> {
    const { bytes, partBytes } = this.#options
    const uploaded: CompletedPart[] = []
    let next = first
    const uploader = async (): Promise<void> => {
      for (let part = next; part * partBytes < bytes; part = next) {
        next += 2
        const Body = this.#content.slice(part * partBytes, Math.min(partBytes, bytes - part * partBytes))
        const PartNumber = part + 1
        const command = new UploadPartCommand({ Bucket: BUCKET, Key: KEY, UploadId, PartNumber, Body })
        uploaded.push({ PartNumber, ETag: (await client.send(command)).ETag })
      }
    }
    await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, uploader))
    return uploaded
  }

  /** A round in which the remote store had all of it would show nothing. */
  async #checkDirty(): Promise<void> {
    const { backlog } = await must(this.#gateways, 'a start').status(PEER)
    const wanted = Math.floor(this.#options.bytes / this.#options.partBytes / 2) * this.#options.partBytes
    if (backlog.bytes < wanted || backlog.bytes > wanted * 1.5)
      throw new Error(`${backlog.bytes} bytes are dirty on the peer, and ${wanted} should be`)
  }

  async #figures(): Promise<Figures & { readonly isFabricUsed: boolean }> {
    const gateways = must(this.#gateways, 'a start')
    const read = await gateways.metrics(READER)
    const fabricBytes = read('tidegate_fabric_bytes_total{kind="read"}')
    return {
      tcpBytes: read('tidegate_neighbour_bytes_total{direction="in"}') - fabricBytes,
      fabricBytes,
      fabricReads: read('tidegate_fabric_bodies_total{kind="read"}'),
      fallbacks: read('tidegate_fabric_fallbacks_total'),
      badPages: read('tidegate_neighbour_bad_pages_total'),
      remoteBytes: gateways.door.bytesRead,
      isFabricUsed: read('tidegate_fabric_peers') > 0,
    }
  }
}

function describe({ kind, atShare, lastsMs }: Fault): string {
  return `${kind} for ${Math.round(lastsMs)} ms at ${atShare.toFixed(2)}`
}
