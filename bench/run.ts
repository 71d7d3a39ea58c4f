/**
 * `npm run bench -- [NAME...] [--rounds N] [--seconds N] [--objects N] [--directory DIR]`
 *
 * Runs the benchmarks named (all, if none; `kv` stands for all whose names begin with `kv-`), prints a table and writes their
 * rows into bench/results/latest.json. Servers under test, the
 * bare server and the load generator are processes of their own. Data directories are made below `--directory`, which
 * should lie on the disk that is to be measured. Exits 1 if a benchmark could not run; missing an aim is no failure.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startGateway, type GatewayProcess } from '../test/support/gateway-process.ts'
import { startBareServer } from './bare/bare.ts'
import type { Benchmark, BenchmarkContext, Measurement } from './benchmark.ts'
import { attachImport } from './cases/attach-import.ts'
import { attachLook } from './cases/attach-look.ts'
import { diskLevel } from './cases/disk-level.ts'
import { getBenchmarks } from './cases/get.ts'
import { kvBatch } from './cases/kv-batch.ts'
import { kvScan } from './cases/kv-scan.ts'
import { kvSingle } from './cases/kv-single.ts'
import { kvWatch } from './cases/kv-watch.ts'
import { listBenchmark } from './cases/list.ts'
import { memoryBenchmark } from './cases/memory.ts'
import { metaGateway } from './cases/meta-gateway.ts'
import { metaTransactions } from './cases/meta-transactions.ts'
import { mountData } from './cases/mount-data.ts'
import { mountFiles } from './cases/mount-files.ts'
import { mountRename } from './cases/mount-rename.ts'
import { mountUntar } from './cases/mount-untar.ts'
import { neighboursBalance } from './cases/neighbours-balance.ts'
import { neighboursHit } from './cases/neighbours-hit.ts'
import { neighboursReplicated } from './cases/neighbours-replicated.ts'
import { putLarge } from './cases/put-large.ts'
import { putSmall } from './cases/put-small.ts'
import { rdma } from './cases/rdma.ts'
import { writeBehindCold } from './cases/write-behind-cold.ts'
import { writeBehindLatency } from './cases/write-behind-latency.ts'
import { writeBehindUploads } from './cases/write-behind-upload.ts'
import { whenEnding } from './ending.ts'
import { startLoad } from './load/load.ts'

const BENCHMARKS: readonly Benchmark[] = [
  ...getBenchmarks,
  putSmall,
  putLarge,
  kvSingle,
  kvBatch,
  kvScan,
  kvWatch,
  listBenchmark,
  memoryBenchmark,
  mountData,
  mountFiles,
  mountUntar,
  mountRename,
  diskLevel,
  rdma,
  ...writeBehindUploads,
  writeBehindLatency,
  writeBehindCold,
  attachLook,
  attachImport,
  metaTransactions,
  metaGateway,
  neighboursHit,
  neighboursReplicated,
  neighboursBalance,
]
const ROUNDS = 5
const RESULTS = fileURLToPath(new URL('./results/latest.json', import.meta.url))
/** In the checkout rather than in the temporary directory, which often lies in memory. */
const DIRECTORY = fileURLToPath(new URL('../node_modules/.cache/tidegate-bench', import.meta.url))
/** statfs(2), `f_type` of a file system that lives in memory. */
const TMPFS = 0x01021994

const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    seconds: { type: 'string', default: '2' },
    objects: { type: 'string', default: '1000000' },
    directory: { type: 'string', default: DIRECTORY },
  },
})

async function runBenchmark(
  benchmark: Benchmark,
  shared: Pick<BenchmarkContext, 'load' | 'bare'>,
): Promise<Measurement[]> {
  const directory = mkdtempSync(join(options.directory, `${benchmark.name}-`))
  const gateways: GatewayProcess[] = []
  const done = whenEnding(() => {
    for (const gateway of gateways) gateway.child.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  })
  try {
    return await benchmark.run({
      ...shared,
      directory,
      rounds: Number(options.rounds ?? benchmark.rounds ?? ROUNDS),
      seconds: Number(options.seconds),
      objects: Number(options.objects),
      note: (text) => process.stdout.write(`${benchmark.name}: ${text}\n`),
      async gateway(data = join(directory, `data-${gateways.length}`), flags = [], environment = {}) {
        const logFile = join(directory, 'log')
        const gateway = await startGateway({ data, flags: ['--log-level', 'warn', ...flags], environment, logFile })
        gateways.push(gateway)
        return gateway
      },
    })
  } finally {
    for (const gateway of gateways) await gateway.stop()
    rmSync(directory, { recursive: true, force: true })
    done()
  }
}

function table(measurements: readonly Measurement[]): string {
  const number = (value: number | null): string =>
    value === null ? '' : value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(3)
  const rows = [
    ['name', 'value', 'unit', 'ceiling', 'ratio', 'aim', 'durability'],
    ...measurements.map((row) => [
      row.name,
      number(row.value),
      row.unit,
      number(row.ceiling),
      number(row.ratio),
      row.aim ?? '',
      row.durability,
    ]),
  ]
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function isMeant(benchmark: Benchmark, name: string): boolean {
  return benchmark.name === name || benchmark.name.startsWith(`${name}-`)
}

/** Rows of benchmarks that were not run this time stay. */
function withEarlier(measurements: readonly Measurement[]): Measurement[] {
  const earlier = existsSync(RESULTS) ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as Measurement[]) : []
  return [...earlier.filter(({ name }) => !measurements.some((row) => row.name === name)), ...measurements]
}

async function main(): Promise<number> {
  const unknown = names.filter((name) => !BENCHMARKS.some((benchmark) => isMeant(benchmark, name)))
  if (unknown.length > 0) {
    const known = BENCHMARKS.map((benchmark) => benchmark.name).join(', ')
    process.stderr.write(`bench: no benchmark ${unknown.join(', ')}; there are ${known}\n`)
    return 2
  }
  mkdirSync(options.directory, { recursive: true })
  if (statfsSync(options.directory).type === TMPFS) {
    process.stdout.write(`${options.directory} lies in memory: nothing written here is durable\n`)
  }
  const load = startLoad()
  const bare = await startBareServer()
  const chosen = BENCHMARKS.filter((benchmark) => names.length === 0 || names.some((name) => isMeant(benchmark, name)))
  const measurements: Measurement[] = []
  let failed = 0
  for (const benchmark of chosen) {
    try {
      measurements.push(...(await runBenchmark(benchmark, { load, bare })))
    } catch (error) {
      failed++
      process.stderr.write(`${benchmark.name} could not run: ${(error as Error).message}\n`)
    }
  }
  load.stop()
  bare.stop()
  process.stdout.write(`${table(measurements)}\n`)
  mkdirSync(fileURLToPath(new URL('./results', import.meta.url)), { recursive: true })
  writeFileSync(RESULTS, `${JSON.stringify(withEarlier(measurements), null, 2)}\n`)
  return failed === 0 ? 0 : 1
}

process.exitCode = await main()
