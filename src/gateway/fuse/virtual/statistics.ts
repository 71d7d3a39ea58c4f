/** The file `.tidegate/stats`: a line `name value` for each figure. */

export interface MountStatistics {
  /** Of the gateway behind the mount, in an order that stays. Read without I/O. */
  figures(): readonly (readonly [name: string, value: number])[]
}

/** What is no number yet (a disk that was not looked at) is left out. */
export function statisticsText(...sources: readonly MountStatistics[]): Buffer {
  const lines = sources.flatMap((source) =>
    source.figures().flatMap(([name, value]) => (Number.isFinite(value) ? [`${name} ${value}\n`] : [])),
  )
  return Buffer.from(lines.join(''))
}
