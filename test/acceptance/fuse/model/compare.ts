/** Runs random operations in the mount and in the model, and compares: each answer, what S3 has of published files, and all at the end. */
import { Random } from '../../../model/random.ts'
import type { GatewayProcess } from '../../../support/gateway-process.ts'
import type { MountedGateway } from '../../../support/mounted-gateway.ts'
import { sendSigned } from '../../../support/signed-calls.ts'
import { Executor } from './executor.ts'
import { Generator } from './generator.ts'
import { MountModel } from './model.ts'
import { inWords, type Operation, type Outcome } from './operations.ts'
import type { ModelFile } from './tree.ts'

/** Shown when the two differ. */
const HISTORY_MAX = 40
const S3_CHANCE = 0.3

export interface CompareOptions {
  readonly seed: number
  readonly operations: number
  /** The kernel's caches are those of the whole machine: by root only. */
  readonly mayDropCaches: boolean
  /** Where the bucket is an attached one: what makes it, and what compares it with what lies outside. It has no hard links (C32). */
  readonly attached?:
    | { attach(bucket: string): Promise<void>; compareOutside(bucket: string): Promise<void> }
    | undefined
}

/** In a bucket of its own. Stops the gateway once, to compare what is there after a start. @throws where the two differ */
export async function compareWithModel(mounted: MountedGateway, options: CompareOptions): Promise<void> {
  const bucket = `seed-${options.seed}`
  const { attached } = options
  await (attached ? attached.attach(bucket) : mounted.shell(`mkdir ${bucket}`))
  const model = new MountModel()
  const run = new Comparison(inMount(mounted, bucket), { bucket, model }, options)
  try {
    await run.operations()
    await run.everything('at the end')
    await run.closeAll()
  } finally {
    await run.end()
  }
  await attached?.compareOutside(bucket)
  await mounted.gateway.stop()
  await mounted.restart()
  const again = new Comparison(inMount(mounted, bucket), { bucket, model }, options)
  try {
    await again.everything('after a restart')
  } finally {
    await again.end()
  }
  await attached?.compareOutside(bucket)
}

/** Where the operations are done. */
export interface Place {
  /** Whose S3 has what is published there. */
  readonly gateway: GatewayProcess
  /** In which part of it the last one was done, for whoever reads what went wrong. */
  readonly where?: string
  /** Whether the operation may be done there now. Those that `Comparison` makes by itself always may. */
  suits(operation: Operation): boolean
  /** Called before the model knows of the operation. */
  run(operation: Operation): Promise<Outcome>
  end(): Promise<void>
}

function inMount({ gateway, mountPoint }: MountedGateway, bucket: string): Place {
  const executor = new Executor(`${mountPoint}/${bucket}`)
  return {
    gateway,
    suits: () => true,
    run: (operation) => executor.run(operation),
    end: () => executor.end(),
  }
}

export class Comparison {
  readonly #place: Place
  readonly #bucket: string
  readonly #options: CompareOptions
  readonly #random: Random
  readonly #model: MountModel
  readonly #history: string[] = []

  constructor(
    place: Place,
    { bucket, model }: { readonly bucket: string; readonly model: MountModel },
    options: CompareOptions,
  ) {
    this.#place = place
    this.#bucket = bucket
    this.#options = options
    this.#random = new Random(options.seed)
    this.#model = model
  }

  async operations(): Promise<void> {
    const generator = new Generator(this.#random, this.#model, {
      mayDropCaches: this.#options.mayDropCaches,
      mayLink: this.#options.attached === undefined,
    })
    for (let done = 0; done < this.#options.operations;) {
      const operation = generator.operation()
      if (!this.#place.suits(operation)) continue
      done++
      await this.#both(operation)
      if (operation.do === 'publish' && this.#random.chance(S3_CHANCE)) await this.#compareOneByS3()
    }
  }

  /** Every name, content and attribute, through both doors. */
  async everything(when: string): Promise<void> {
    this.#history.push(when)
    await this.#both({ do: 'list', path: '.' })
    for (const { path } of this.#model.tree.directories()) {
      if (path !== '') await this.#inspect(path.slice(0, -1), ['list', 'attributes'])
    }
    for (const { path, node } of this.#model.tree.leaves()) {
      if (node.kind === 'symlink') await this.#inspect(path, ['readLink'])
      else await this.#compareFile(path, node)
    }
  }

  /** The files that are open are closed, not the mappings: those end with the executor. */
  async closeAll(): Promise<void> {
    for (const handle of this.#model.handles.keys()) await this.#both({ do: 'close', handle })
  }

  end(): Promise<void> {
    return this.#place.end()
  }

  async #inspect(path: string, what: readonly ('list' | 'attributes' | 'readLink')[]): Promise<void> {
    await this.#both({ do: 'status', path })
    for (const name of what) await this.#both({ do: name, path })
  }

  async #compareFile(path: string, file: ModelFile): Promise<void> {
    const handle = -1
    await this.#inspect(path, ['attributes'])
    for (const name of file.attributes.keys()) await this.#both({ do: 'attribute', path, name })
    await this.#both({ do: 'open', path, flags: ['RDONLY'], handle })
    await this.#both({ do: 'read', handle, offset: 0, length: file.size + 1 })
    await this.#both({ do: 'sync', handle })
    await this.#both({ do: 'close', handle })
    await this.#compareByS3(path, file)
  }

  async #compareOneByS3(): Promise<void> {
    const files = this.#model.tree.leaves().filter(({ node }) => node.kind === 'file')
    if (files.length === 0) return
    const { path, node } = this.#random.pick(files)
    await this.#both({ do: 'publish', path })
    await this.#compareByS3(path, node as ModelFile)
  }

  async #compareByS3(path: string, file: ModelFile): Promise<void> {
    const key = path.split('/').map(encodeURIComponent).join('/')
    const response = await sendSigned(this.#place.gateway, { method: 'GET', target: `/${this.#bucket}/${key}` })
    this.#history.push(`S3 GET ${path}`)
    if (response.status !== 200) this.#fail(`S3 answers ${response.status} ${response.body.toString()}`)
    const wanted = file.slice(0, file.size)
    if (!response.body.equals(wanted)) this.#fail(`S3 has other bytes: ${difference(response.body, wanted)}`)
  }

  async #both(operation: Operation): Promise<void> {
    const answering = this.#place.run(operation)
    this.#history.push(`${this.#place.where ?? ''}${inWords(operation)}`)
    if (this.#history.length > HISTORY_MAX) this.#history.shift()
    const wanted = this.#model.apply(operation)
    const found = await answering
    if ('check' in wanted) {
      if (!wanted.check(found)) this.#fail(`it gave ${JSON.stringify(found)}, not ${wanted.described}`)
    } else if (JSON.stringify(found) !== JSON.stringify(wanted)) this.#fail(inWhat(operation, found, wanted))
  }

  #fail(what: string): never {
    const { seed, operations } = this.#options
    const history = this.#history.map((line) => `  ${line}`).join('\n')
    throw new Error(`seed ${seed}, ${operations} operations: ${what}; the last of\n${history}`)
  }
}

function inWhat(operation: Operation, found: Outcome, wanted: Outcome): string {
  const isBytes = operation.do === 'read' || operation.do === 'mapRead'
  if (isBytes && 'value' in found && 'value' in wanted) {
    return `other bytes: ${difference(decoded(found.value), decoded(wanted.value))}`
  }
  return `it gave ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`
}

function decoded(value: unknown): Buffer {
  return Buffer.from(String(value), 'base64')
}

function difference(found: Buffer, wanted: Buffer): string {
  const first = wanted.findIndex((byte, at) => found[at] !== byte)
  const at = first < 0 ? wanted.length : first
  const piece = (bytes: Buffer): string => bytes.subarray(at, at + 16).toString('hex') || 'nothing'
  return `${found.length} bytes instead of ${wanted.length}, at ${at} ${piece(found)} instead of ${piece(wanted)}`
}
