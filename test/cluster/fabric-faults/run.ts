/** `npm run rdma-faults -- [--rounds N] [--mib N] [--part-mib N] [--seed S] [--fabric auto|verbs|tcp|off] [--kind 'peer killed']`: a large object is read from one node while the one that has half of it alone fails; the long form. */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { FAULT_KINDS } from './faults.ts'
import { BrokenRead, STALL_MS_MAX } from './object-reader.ts'
import { FabricFaultRounds, type Figures, type RoundResult } from './rounds.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '100' },
    mib: { type: 'string', default: '1024' },
    'part-mib': { type: 'string', default: '16' },
    seed: { type: 'string' },
    fabric: { type: 'string' },
    kind: { type: 'string' },
  },
})
const MIB = 1024 * 1024
const LOG_LINES = 40
const rounds = Number(values.rounds)
const bytes = Number(values.mib) * MIB
const firstSeed = Number(values.seed ?? Date.now() % 2 ** 31)
const flags = values.fabric === undefined ? [] : ['--fabric', values.fabric]
const options = { bytes, partBytes: Number(values['part-mib']) * MIB, seed: firstSeed, flags }
const kind = FAULT_KINDS.find((one) => one === values.kind)
const results: RoundResult[] = []

const say = (line: string): void => void process.stdout.write(`${line}\n`)
const mib = (count: number): string => `${Math.round(count / MIB)} MiB`

let nodes = new FabricFaultRounds(options)
let failed = 0
let wrongBytes = 0
say(
  `${rounds} rounds of reading ${mib(bytes)}, half of them dirty on the peer, ${flags.join(' ')} from seed ${firstSeed}`,
)
await nodes.start()
for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
  try {
    const result = await nodes.run({ seed, kind, onStep: (step) => say(`  ${step}`) })
    results.push(result)
    say(`${seed}: ${text(result)}`)
  } catch (error) {
    failed++
    if (error instanceof BrokenRead) wrongBytes += error.wrongBytes
    say(`${seed}: FAILED ${(error as Error).stack}`)
    // What they wrote last is on its way to the file.
    await sleep(500)
    for (const index of [0, 1]) say(`log of ${index}:\n${tail(nodes.log(index))}`)
    // What the others would find after it says nothing.
    await nodes.end()
    nodes = new FabricFaultRounds(options)
    await nodes.start()
  }
}
await nodes.end()

function text({ faults, ms, reads, figures, isFabricUsed }: RoundResult): string {
  const errors = Object.entries(reads.errors).map(([name, count]) => `${count} ${name}`)
  return (
    `${faults.join(', ')}: ${(ms / 1000).toFixed(1)} s, ${mib(reads.bytes)} in ${reads.gets} GETs, ${errors.join(', ') || 'no errors'}, ` +
    `longest stall ${(reads.longestStallMs / 1000).toFixed(1)} s; ${carried(figures)}${isFabricUsed ? '' : '; not by the fabric now'}`
  )
}

function carried({ fabricBytes, fabricReads, tcpBytes, remoteBytes, fallbacks, badPages }: Figures): string {
  return (
    `by fabric ${mib(fabricBytes)} in ${fabricReads} reads, by TCP ${mib(tcpBytes)}, from the remote store ${mib(remoteBytes)}; ` +
    `${fallbacks} fallbacks, ${badPages} answers with bad pages`
  )
}

function tail(log: string): string {
  return log.trimEnd().split('\n').slice(-LOG_LINES).join('\n')
}

const sum = (read: (result: RoundResult) => number): number => results.reduce((total, one) => total + read(one), 0)
const errorsOf = ({ reads }: RoundResult): number => Object.values(reads.errors).reduce((total, one) => total + one, 0)
const stallMs = Math.max(0, ...results.map(({ reads }) => reads.longestStallMs))
const figures: Figures = {
  tcpBytes: sum((one) => one.figures.tcpBytes),
  fabricBytes: sum((one) => one.figures.fabricBytes),
  fabricReads: sum((one) => one.figures.fabricReads),
  fallbacks: sum((one) => one.figures.fallbacks),
  badPages: sum((one) => one.figures.badPages),
  remoteBytes: sum((one) => one.figures.remoteBytes),
}
say(
  `${results.length} rounds passed, ${failed} failed; ${mib(sum(({ reads }) => reads.bytes))} compared in ${sum(({ reads }) => reads.gets)} GETs, ` +
    `${wrongBytes} wrong bytes, ${sum(errorsOf)} errors to clients, longest stall ` +
    `${(stallMs / 1000).toFixed(1)} s of ${STALL_MS_MAX / 1000} s; ${carried(figures)}`,
)
process.exitCode = failed === 0 && results.length > 0 ? 0 : 1
