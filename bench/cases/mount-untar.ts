/**
 * A tree of source code, unpacked by tar(1) into the mount. It is made up, the same each time: directories of some files each, most
 * of them of a few KiB. Files a second; what is not synced survives no crash on any of them.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Benchmark, BenchmarkContext } from '../benchmark.ts'
import { rowsAgainst, takeTurnsOf, withMounts } from '../mounts.ts'
import { runProgram } from '../program.ts'

/** For each second that a measurement should take. */
const FILES_PER_SECOND = 1000
const FILES_A_DIRECTORY = 12
/** How a thousand files are as large as at most so many bytes. */
const SIZES = [
  { perMille: 600, bytesMax: 4096 },
  { perMille: 300, bytesMax: 32 * 1024 },
  { perMille: 95, bytesMax: 128 * 1024 },
  { perMille: 5, bytesMax: 1024 * 1024 },
] as const

export const mountUntar: Benchmark = {
  name: 'mount-untar',
  rounds: 3,
  async run(context) {
    const archive = await makeArchive(context)
    return withMounts(context, {}, async (mounts) => {
      const taken = await takeTurnsOf(mounts, context.rounds, async ({ directory }) => {
        const target = join(directory, 'unpacked')
        await runProgram('mkdir', [target])
        const { seconds } = await runProgram('tar', ['-xf', archive, '-C', target])
        await runProgram('rm', ['-r', target])
        return filesOf(context) / seconds
      })
      return rowsAgainst({ name: 'mount-untar', unit: 'files/s' }, taken)
    })
  },
}

function filesOf({ seconds }: BenchmarkContext): number {
  return Math.ceil(FILES_PER_SECOND * seconds)
}

async function makeArchive(context: BenchmarkContext): Promise<string> {
  const tree = join(context.directory, 'tree')
  const random = randomNumbers(1)
  let bytes = 0
  for (let index = 0; index < filesOf(context); index++) {
    const group = Math.floor(index / FILES_A_DIRECTORY)
    const directory = join(tree, `package-${Math.floor(group / 10)}`, `source-${group % 10}`)
    if (index % FILES_A_DIRECTORY === 0) mkdirSync(directory, { recursive: true })
    const file = Buffer.alloc(sizeOf(random), `line ${index} of a file\n`)
    writeFileSync(join(directory, `file-${index}.ts`), file)
    bytes += file.length
  }
  const archive = join(context.directory, 'tree.tar')
  await runProgram('tar', ['--sort=name', '-cf', archive, '-C', tree, '.'])
  context.note(`${filesOf(context)} files, ${(bytes / 2 ** 20).toFixed(0)} MiB`)
  return archive
}

function sizeOf(random: () => number): number {
  let place = random() * 1000
  for (const { perMille, bytesMax } of SIZES) {
    if (place < perMille) return Math.floor(random() * bytesMax)
    place -= perMille
  }
  return 0
}

/** mulberry32: the same numbers from the same seed, from 0 to 1. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
