/**
 * What the native addon of the fabric does over its life, one kind after its name: `lifetime-process.ts KIND ROUNDS`, with --expose-gc. Prints one line
 * with what was seen and ends with 0; a kind that is about how a process ends says so itself. Both ends lie in this process, each with a device of its own.
 */
import { readdirSync } from 'node:fs'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { Worker, isMainThread, workerData } from 'node:worker_threads'
import { openFabricDevice } from '../../../src/rdma/fabric/device.ts'
import type { Channel, FabricDevice, Operation, Region } from '../../../src/rdma/fabric/ports.ts'

const MIB = 1024 * 1024
const POOL_BYTES = 4 * MIB
/** What may come on top once things have warmed up: the allocator's and V8's own ups and downs. */
const GROWTH_BYTES_MAX = 48 * MIB
const DESCRIPTOR_GROWTH_MAX = 20

const KINDS: Readonly<Record<string, (rounds: number) => Promise<void>>> = {
  channels,
  regions,
  devices,
  collected,
  workers,
  idle,
  busy,
  thrown,
  exit: async (rounds) => leave(rounds, () => process.exit(0)),
  throw: async (rounds) =>
    leave(rounds, () => {
      process.once('uncaughtException', () => process.exit(0))
      throw new Error('on purpose')
    }),
}

async function open(): Promise<FabricDevice> {
  const { device, reason } = await openFabricDevice({ provider: 'tcp', address: '127.0.0.1' })
  if (device === undefined) throw new Error(reason)
  return device
}

interface Ends {
  readonly one: FabricDevice
  readonly two: FabricDevice
  readonly mine: Region
  readonly theirs: Region
}

async function openEnds(): Promise<Ends> {
  const [one, two] = [await open(), await open()]
  const mine = one.register(new Uint8Array(new SharedArrayBuffer(POOL_BYTES)), 'none')
  return { one, two, mine, theirs: two.register(new Uint8Array(POOL_BYTES).fill(7), 'read and write') }
}

function operation(ends: Ends, kind: 'read' | 'write', bytes: number): Omit<Operation, 'ended'> {
  return { kind, region: ends.mine, offset: 0, bytes, remote: { key: ends.theirs.key, address: ends.theirs.address } }
}

/** Resolves once it has ended, however. */
function carryOut(channel: Channel, wanted: Omit<Operation, 'ended'>): Promise<string> {
  return new Promise((resolve) => {
    const attempt = (): void => {
      if (channel.isClosed) resolve('never begun')
      else if (channel.start({ ...wanted, ended: (failure) => resolve(failure?.kind ?? 'well') }) === 'later')
        setTimeout(attempt, 1)
    }
    attempt()
  })
}

/** As many as are taken. What becomes of them is not looked at. */
function startSome(channel: Channel, wanted: Omit<Operation, 'ended'>, some: number): void {
  for (let index = 0; index < some && channel.start({ ...wanted, ended: () => undefined }) === 'started'; index++);
}

function connected(ends: Ends): { near: Channel; far: Channel } {
  const [near, far] = [ends.one.open(), ends.two.open()]
  near.connect(far.name)
  return { near, far }
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

/** Of the second half over the first: the first is for warming up. */
class Growth {
  #bytes = 0
  #descriptors = 0

  begin(): void {
    globalThis.gc?.()
    this.#bytes = process.memoryUsage.rss()
    this.#descriptors = readdirSync('/proc/self/fd').length
  }

  end(what: string): void {
    globalThis.gc?.()
    const bytes = process.memoryUsage.rss() - this.#bytes
    const descriptors = readdirSync('/proc/self/fd').length - this.#descriptors
    console.log(`${what}: grew by ${(bytes / MIB).toFixed(1)} MiB and ${descriptors} descriptors`)
    check(bytes < GROWTH_BYTES_MAX && descriptors < DESCRIPTOR_GROWTH_MAX, 'something is not given back')
  }
}

async function channels(rounds: number): Promise<void> {
  const ends = await openEnds()
  const growth = new Growth()
  for (let round = 0; round < rounds; round++) {
    if (round === rounds >> 1) growth.begin()
    const { near, far } = connected(ends)
    const region = ends.two.register(new Uint8Array(64 * 1024), 'read')
    if (round % 2 === 1) check((await carryOut(near, operation(ends, 'read', 4_096))) === 'well', 'a read that fails')
    if (round % 4 === 1) startSome(near, operation(ends, 'read', MIB), 4)
    if (round % 4 === 3) startSome(near, operation(ends, 'write', MIB), 4)
    if (round % 8 < 3) await far.close()
    await Promise.all([near.close(), far.close()])
    region.close()
  }
  growth.end(`${rounds} times two channels opened and closed`)
  await Promise.all([ends.one.close(), ends.two.close()])
}

/** Memory that comes and goes while a channel stays: of nobody else's, of one channel's that goes with it, and of one that failed. */
async function regions(rounds: number): Promise<void> {
  const ends = await openEnds()
  const stays = connected(ends)
  const growth = new Growth()
  for (let round = 0; round < rounds; round++) {
    if (round === rounds >> 1) growth.begin()
    const { near, far } = connected(ends)
    const mine = ends.one.register(new Uint8Array(POOL_BYTES).fill(1), 'none')
    const granted = ends.two.register(new Uint8Array(POOL_BYTES).fill(2), 'read and write', far)
    const { key, address } = granted
    const write = { kind: 'write', region: mine, offset: 0, bytes: MIB, remote: { key, address } } as const
    check((await carryOut(near, write)) === 'well', 'a write that fails')
    check(
      (await carryOut(stays.near, { ...operation(ends, 'read', MIB), region: mine })) === 'well',
      'a read that fails',
    )
    mine.close()
    if (round % 2 === 1) await carryOut(near, { ...operation(ends, 'read', 64), remote: { key: 1n, address } })
    await Promise.all([near.close(), far.close()])
    granted.close()
    globalThis.gc?.()
  }
  growth.end(`${rounds} times memory registered and closed beside a channel that stays open`)
  await Promise.all([ends.one.close(), ends.two.close()])
}

async function devices(rounds: number): Promise<void> {
  const growth = new Growth()
  for (let round = 0; round < rounds; round++) {
    if (round === rounds >> 1) growth.begin()
    const ends = await openEnds()
    const { near } = connected(ends)
    if (round % 2 === 1) {
      check((await carryOut(near, operation(ends, 'write', 4_096))) === 'well', 'a write that fails')
      startSome(near, operation(ends, 'read', MIB), 4)
    }
    await Promise.all([ends.one.close(), ends.two.close()])
  }
  growth.end(`${rounds} times two devices opened and closed`)
}

/** Nothing is closed, only let go of: with operations under way, with memory of its own, in every order. */
async function collected(rounds: number): Promise<void> {
  const growth = new Growth()
  const collect = globalThis.gc ?? (() => undefined)
  for (let round = 0; round < rounds; round++) {
    if (round === rounds >> 1) growth.begin()
    await (async () => {
      const ends = await openEnds()
      for (let index = 0; index < 4; index++) {
        const { near } = connected(ends)
        ends.one.register(new Uint8Array(64 * 1024), 'read')
        if (round % 2 === 1) await carryOut(near, operation(ends, 'read', 4_096))
        startSome(near, operation(ends, 'read', MIB), 4)
        collect()
      }
    })()
    collect()
    // Finalizers run in turns of their own, and what they close says so later.
    for (let left = 5; left > 0; left--) await turn()
    await sleep(5)
    collect()
  }
  await sleep(200)
  collect()
  await sleep(200)
  growth.end(`${rounds} times two devices with channels and regions let go of`)
}

/** Reads without an end, until whatever ends it. */
function readOn(ends: Ends, channel: Channel): void {
  const again = (): void => {
    if (channel.isClosed) return
    const taken = channel.start({ ...operation(ends, 'read', MIB), ended: (failure) => failure ?? again() })
    if (taken === 'later') setTimeout(again, 1)
  }
  for (let index = 0; index < 4; index++) again()
}

/** Three at a time; some end by themselves, some are terminated, all while reads are under way. */
async function workers(rounds: number): Promise<void> {
  const growth = new Growth()
  for (let round = 0; round < rounds; round++) {
    if (round === rounds >> 1) growth.begin()
    await Promise.all(
      ['terminated', 'exits', 'closes'].map(async (how) => {
        const worker = new Worker(import.meta.filename, { workerData: how })
        const exit = new Promise<number>((resolve, reject) => {
          worker.once('exit', resolve)
          worker.once('error', reject)
        })
        if (how === 'terminated') worker.once('message', () => void worker.terminate())
        const code = await exit
        check(code === (how === 'terminated' ? 1 : 0), `a worker that is ${how} ends with ${code}`)
      }),
    )
  }
  growth.end(`${rounds} times three workers`)
}

async function work(how: string): Promise<void> {
  const { parentPort } = await import('node:worker_threads')
  const ends = await openEnds()
  const { near } = connected(ends)
  check((await carryOut(near, operation(ends, 'read', MIB))) === 'well', 'a read that fails')
  readOn(ends, near)
  await sleep(10)
  parentPort?.postMessage('under way')
  if (how === 'closes') await Promise.all([ends.one.close(), ends.two.close()])
  if (how === 'exits') process.exit(0)
}

async function leave(rounds: number, how: () => void): Promise<void> {
  const ends = await openEnds()
  const { near } = connected(ends)
  check((await carryOut(near, operation(ends, 'write', MIB))) === 'well', 'a write that fails')
  readOn(ends, near)
  // A moment that is not the same each time.
  await sleep(rounds % 17)
  console.log('leaving with reads under way')
  how()
}

/** Everything open and nothing under way: the process ends by itself. */
async function idle(): Promise<void> {
  const ends = await openEnds()
  const { near } = connected(ends)
  check((await carryOut(near, operation(ends, 'read', 4_096))) === 'well', 'a read that fails')
  console.log('nothing under way')
}

/** What is under way keeps the process alive until it has ended. */
async function busy(): Promise<void> {
  const ends = await openEnds()
  const { near } = connected(ends)
  check((await carryOut(near, operation(ends, 'read', 4_096))) === 'well', 'a read that fails')
  process.exitCode = 3
  near.start({
    ...operation(ends, 'read', MIB),
    ended: (failure) => {
      process.exitCode = failure === undefined ? 0 : 4
      console.log('ended, with nothing else to wait for')
    },
  })
}

/** Who is told of an ending may throw: that is told as any exception of a callback is, and the others are told all the same. */
async function thrown(): Promise<void> {
  const ends = await openEnds()
  const { near } = connected(ends)
  check((await carryOut(near, operation(ends, 'read', 4_096))) === 'well', 'a read that fails')
  const exceptions: unknown[] = []
  process.on('uncaughtException', (error) => exceptions.push(error))
  let told = 0
  const started = Array.from({ length: 32 }, (_, index) =>
    near.start({
      ...operation(ends, 'read', 64),
      ended: () => {
        told++
        if (index % 4 === 0) throw new Error('on purpose')
      },
    }),
  ).filter((each) => each === 'started').length
  // Whoever is not told now never is.
  for (let left = 500; left > 0 && near.underWay > 0; left--) await sleep(10)
  check(told === started && near.underWay === 0, `${told} of ${started} are told`)
  check(exceptions.length > 0, 'no exception')
  check((await carryOut(near, operation(ends, 'read', 4_096))) === 'well', 'a read that fails after that')
  await Promise.all([ends.one.close(), ends.two.close()])
  console.log('all are told')
}

if (isMainThread) {
  const [kind = '', rounds = '1'] = process.argv.slice(2)
  const run = KINDS[kind]
  if (run === undefined) throw new Error(`no such kind: ${kind}; there are ${Object.keys(KINDS).join(', ')}`)
  await run(Number(rounds))
} else {
  await work(String(workerData))
}
