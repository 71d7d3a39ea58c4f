/**
 * A gateway among the others: opened before its engine, given to it as parts, and attended to while it runs (neighbours.ts, lost-nodes.ts, status.ts). Part of the
 * composition root.
 */
import { join } from 'node:path'
import { must } from './common/assert.ts'
import { BackgroundRunner } from './common/background.ts'
import { systemClock } from './common/clock.ts'
import { isTidegateError } from './common/errors.ts'
import type { Logger } from './common/logging.ts'
import type { Config } from './config/parse.ts'
import type { EngineParts } from './engine-parts.ts'
import type { Engine } from './engine.ts'
import { LostNodesJob, type LostNodeEvent } from './lost-nodes.ts'
import { LostNodes } from './meta/raft/nodes/lost-nodes.ts'
import { observeNeighbours } from './neighbour-metrics.ts'
import { openNeighbours, type Neighbours } from './neighbours.ts'
import type { SharedMetadata } from './shared-metadata.ts'
import { neighbourStatus, type NeighbourStatus } from './status.ts'

export class Neighbourhood {
  readonly #config: Config
  readonly #shared: SharedMetadata
  readonly #neighbours: Neighbours
  readonly #dataPath: string
  readonly #logger: Logger
  #runner: BackgroundRunner | undefined

  private constructor(options: {
    config: Config
    shared: SharedMetadata
    neighbours: Neighbours
    dataPath: string
    logger: Logger
  }) {
    this.#config = options.config
    this.#shared = options.shared
    this.#neighbours = options.neighbours
    this.#dataPath = options.dataPath
    this.#logger = options.logger
  }

  static async open(
    config: Config,
    shared: SharedMetadata,
    options: { dataPath: string; logger: Logger },
  ): Promise<Neighbourhood> {
    const { logger } = options
    const neighbours = await openNeighbours(config, shared, { logger })
    return new Neighbourhood({ config, shared, neighbours, ...options })
  }

  /** What the engine is to know of the others. */
  get parts(): Required<Pick<EngineParts, 'neighbours' | 'copies'>> {
    const { calls, view } = this.#neighbours
    const directory = join(this.#dataPath, 'copies')
    return {
      neighbours: { calls, view, lend: (memory) => this.#neighbours.lend(memory) },
      copies: { calls, view, directory, graceMs: this.#config.nodeGrace },
    }
  }

  /** Looks after nodes that are lost, from now on. */
  attend({ namespace, copies, neighbours }: Engine, isRemoteShared: boolean): NeighbourStatus {
    const { view, transport } = this.#neighbours
    const { etcd, layout } = this.#shared
    const lost = new LostNodesJob({
      clock: systemClock,
      view,
      graceMs: this.#config.nodeGrace,
      fencing: new LostNodes({ etcd, layout, clock: systemClock }),
      namespace,
      remote: isRemoteShared ? 'all' : 'owner',
      copies,
      onEvent: (event) => tell(event, this.#logger),
    })
    const onFailure = (job: string, error: unknown): void => {
      // While etcd is away that is told once, and not by each round.
      const level = isTidegateError(error, 'Unavailable') ? 'debug' : 'error'
      this.#logger[level]({ job, error }, 'a background job failed; it will be tried again')
    }
    this.#runner = new BackgroundRunner(lost.job, { clock: systemClock, onFailure })
    this.#runner.start()
    const status = neighbourStatus({
      view,
      transport,
      asked: () => must(neighbours, 'neighbours of a node among others').figures(),
      copies,
      lost: () => lost.lost(),
      isRemoteShared,
    })
    observeNeighbours(status.figures)
    return status
  }

  /** The doors are open. */
  serving(): Promise<void> {
    return this.#neighbours.serving()
  }

  /** Nothing new is given to this node, and it judges nobody any more. Safe to repeat. */
  async leave(): Promise<void> {
    await this.#runner?.stop()
    await this.#neighbours.leave()
  }

  /** After the engine. */
  async stop(): Promise<void> {
    await this.#runner?.stop()
    await this.#neighbours.stop()
  }
}

function tell(event: LostNodeEvent, logger: Logger): void {
  const { kind, ...figures } = event
  switch (kind) {
    case 'fenced':
      return logger.warn(figures, 'a node was away for longer than the grace and is shut out until it starts again')
    case 'let go':
      return logger.info(figures, 'what a lost node had open is let go')
    case 'inherited':
      return logger.info(figures, 'segments of a lost node are of this one now')
  }
}
