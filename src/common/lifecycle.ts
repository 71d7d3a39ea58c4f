/**
 * Every long-lived part has these three. Order at shutdown: doors drain before the engine stops.
 */
export interface Lifecycle {
  /** Resolves when the part serves. */
  start(): Promise<void>
  /** Takes no new work and resolves when what was under way is finished and safe. */
  drain(): Promise<void>
  /** Gives every resource back. After `drain` nothing acknowledged is lost; without it neither, but work under way fails. */
  stop(): Promise<void>
}
