/** Seeded random choices (mulberry32), so that a failing run can be repeated from the seed it prints. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  below(bound: number): number {
    return Math.floor(this.next() * bound)
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(choices: readonly T[]): T {
    const chosen = choices[this.below(choices.length)]
    if (chosen === undefined) throw new Error('nothing to pick from')
    return chosen
  }
}

/** The seed of this run: TIDEGATE_TEST_SEED, or the time. */
export function testSeed(): number {
  return Number(process.env['TIDEGATE_TEST_SEED'] ?? Date.now() % 2 ** 31)
}

/** Pieces whose joins meet every odd case: empty components, siblings around `/` in byte order, UTF-8 order against UTF-16. */
const KEY_PIECES = [
  'a',
  'b',
  'a',
  '/',
  '/',
  '//',
  '-',
  '0',
  '.',
  '\0',
  'é',
  '\u{1f600}',
  '\uff61',
  'ab',
  'abcdefgh',
  'z',
]

export function randomKey(random: Random): string {
  let key = ''
  for (let left = 1 + random.below(6); left > 0; left--) key += random.pick(KEY_PIECES)
  return key
}
