/** What befalls a cluster in a test: it begins, lasts as long as the caller wants, and is healed. */

export interface Fault {
  readonly name: string
  /** Whom it befalls, for a reader. */
  readonly on: string
  /** May reject when half of it is done. */
  begin(): Promise<void>
  /**
   * Puts back all that was done, also after a `begin` that failed, and what a container's restart has already put back. Tries everything before it
   * rejects.
   */
  end(): Promise<void>
}

type Heal = () => Promise<void>

/** Called with what undoes a step before that step is tried, or at once after it where it cannot be half done. */
export type Afterwards = (heal: Heal) => void

export interface FaultSteps {
  readonly name: string
  readonly on: string
  begin(afterwards: Afterwards): Promise<void>
}

export function faultOf(steps: FaultSteps): Fault {
  const heals: Heal[] = []
  return {
    name: steps.name,
    on: steps.on,
    begin: async () => {
      await steps.begin((heal) => heals.push(heal))
    },
    end: async () => {
      const errors: unknown[] = []
      for (let heal = heals.pop(); heal !== undefined; heal = heals.pop())
        await heal().catch((error: unknown) => errors.push(error))
      if (errors.length > 0)
        throw new AggregateError(errors, `${steps.name} is not healed: ${errors.map(String).join('; ')}`)
    },
  }
}
