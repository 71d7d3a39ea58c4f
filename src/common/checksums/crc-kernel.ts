/**
 * Reflected CRCs of 32 and 64 bits at memory speed, in a WebAssembly module of about 800 bytes that is written here.
 *
 * The method is slicing by 16: `table[k][b]` is the CRC register left by the byte `b` followed by `k` zero bytes, so
 * sixteen independent look-ups, XORed together, take the register over sixteen bytes at once. The first bytes of each
 * step are XORed with the register before they are looked up.
 *
 * Linear memory of one kernel (each polynomial has an instance of its own, one per thread):
 *
 *     0                      the register, little endian, 4 or 8 bytes
 *     16                     16 tables of 256 registers each (16 KiB or 32 KiB)
 *     STAGING_OFFSET         bytes to be summed, copied in by `update`, at most STAGING_BYTES at a time
 *
 * The register travels through memory, not through the call: a 64-bit argument would be a BigInt, and allocate.
 */
import { must } from '../assert.ts'

/** Bits 0..31 and 32..63 of a register, each an unsigned integer; `high` is 0 where the CRC has 32 bits. */
export interface CrcRegister {
  low: number
  high: number
}

export interface CrcPolynomial {
  readonly widthBits: 32 | 64
  /** Reflected: the coefficient of x^0 is the highest of `widthBits` bits, that of x^widthBits is left out. */
  readonly low: number
  readonly high: number
}

/** Takes `register` over `bytes`; no inversion before or after. */
export type CrcKernel = (register: CrcRegister, bytes: Uint8Array) => void

// The part of the WebAssembly interface used here; Node has it, but its types come only with those of the browser.
declare const WebAssembly: {
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object
  Instance: new (module: object) => { readonly exports: Record<string, unknown> }
}

const TABLES = 16
const TABLES_OFFSET = 16
const STAGING_OFFSET = 64 * 1024
const STAGING_BYTES = 64 * 1024
const WASM_PAGES = (STAGING_OFFSET + STAGING_BYTES) / (64 * 1024)

export function createCrcKernel(polynomial: CrcPolynomial): CrcKernel {
  const module = new WebAssembly.Module(encodeModule(polynomial.widthBits))
  const exports = new WebAssembly.Instance(module).exports
  const sum = exports['sum'] as (from: number, to: number) => void
  const { buffer } = exports['memory'] as { readonly buffer: ArrayBuffer }
  const words = new Uint32Array(buffer)
  const staging = new Uint8Array(buffer, STAGING_OFFSET, STAGING_BYTES)
  fillTables(words, polynomial)

  return (register, bytes) => {
    words[0] = register.low
    words[1] = register.high
    for (let at = 0; at < bytes.length; at += STAGING_BYTES) {
      const length = Math.min(STAGING_BYTES, bytes.length - at)
      staging.set(length === bytes.length ? bytes : bytes.subarray(at, at + length))
      sum(STAGING_OFFSET, STAGING_OFFSET + length)
    }
    register.low = must(words[0], 'register')
    register.high = polynomial.widthBits === 64 ? must(words[1], 'register') : 0
  }
}

function fillTables(words: Uint32Array, polynomial: CrcPolynomial): void {
  const wordsPerEntry = polynomial.widthBits / 32
  const place = (table: number, byte: number): number => TABLES_OFFSET / 4 + (table * 256 + byte) * wordsPerEntry
  const store = (table: number, byte: number, low: number, high: number): void => {
    words[place(table, byte)] = low
    if (wordsPerEntry === 2) words[place(table, byte) + 1] = high
  }
  for (let byte = 0; byte < 256; byte++) {
    let low = byte
    let high = 0
    for (let bit = 0; bit < 8; bit++) {
      const carry = low & 1
      low = (low >>> 1) | (high << 31)
      high >>>= 1
      if (carry) {
        low ^= polynomial.low
        high ^= polynomial.high
      }
    }
    store(0, byte, low, high)
  }
  for (let table = 1; table < TABLES; table++) {
    for (let byte = 0; byte < 256; byte++) {
      const at = place(table - 1, byte)
      const low = must(words[at], 'table entry')
      const high = wordsPerEntry === 2 ? must(words[at + 1], 'table entry') : 0
      const next = place(0, low & 255)
      const nextHigh = wordsPerEntry === 2 ? must(words[next + 1], 'table entry') : 0
      store(table, byte, ((low >>> 8) | (high << 24)) ^ must(words[next], 'table entry'), (high >>> 8) ^ nextHigh)
    }
  }
}

// What follows encodes the module: https://webassembly.github.io/spec/core/binary/

const I32 = 0x7f
const I64 = 0x7e
const EMPTY_BLOCK = 0x40

/** Opcodes used, by their name in the specification. Register operations differ by width; addresses are always i32. */
const OP = {
  block: 0x02,
  loop: 0x03,
  end: 0x0b,
  br: 0x0c,
  brIf: 0x0d,
  localGet: 0x20,
  localSet: 0x21,
  i32Load8u: 0x2d,
  i32Const: 0x41,
  i32GtU: 0x4b,
  i32GeU: 0x4f,
  i32Add: 0x6a,
  i32And: 0x71,
  i32Xor: 0x73,
  i32Shl: 0x74,
  i32ShrU: 0x76,
} as const

interface RegisterOps {
  readonly type: number
  readonly bytesLog2: number
  readonly load: number
  readonly store: number
  readonly constant: number
  readonly xor: number
  readonly shiftRight: number
  /** Makes the low 32 bits of a register an i32. */
  readonly wrap: readonly number[]
}

const REGISTER_OPS: Record<32 | 64, RegisterOps> = {
  32: { type: I32, bytesLog2: 2, load: 0x28, store: 0x36, constant: 0x41, xor: 0x73, shiftRight: 0x76, wrap: [] },
  64: { type: I64, bytesLog2: 3, load: 0x29, store: 0x37, constant: 0x42, xor: 0x85, shiftRight: 0x88, wrap: [0xa7] },
}

/** Parameters and locals of `sum(from, to)`: `from` walks up to `to`; `words` hold the sixteen bytes of one step. */
const LOCAL = { from: 0, to: 1, register: 2, words: 3 } as const

function encodeModule(widthBits: 32 | 64): Uint8Array<ArrayBuffer> {
  const name = (text: string): number[] => [text.length, ...Buffer.from(text)]
  const body = sumBody(REGISTER_OPS[widthBits])
  const sections = [
    section(1, [1, 0x60, 2, I32, I32, 0]),
    section(3, [1, 0]),
    section(5, [1, 0, WASM_PAGES]),
    section(7, [2, ...name('memory'), 2, 0, ...name('sum'), 0, 0]),
    section(10, [1, ...unsigned(body.length), ...body]),
  ]
  return Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flat()])
}

function sumBody(ops: RegisterOps): number[] {
  const registerBytes = 1 << ops.bytesLog2
  const wordsPerStep = TABLES / registerBytes
  const get = (local: number): number[] => [OP.localGet, local]
  const set = (local: number): number[] => [OP.localSet, local]
  const load = (offset: number): number[] => [ops.load, 0, ...unsigned(offset)]
  const advance = (bytes: number): number[] => [...get(LOCAL.from), ...i32(bytes), OP.i32Add, ...set(LOCAL.from)]

  /** Byte `index` of a word, looked up in `table`. The mask keeps it multiplied by the size of an entry. */
  const lookUp = (word: number, index: number, table: number): number[] => [
    ...get(word),
    ...(index === 0 ? [] : [ops.constant, ...signed(index * 8 - ops.bytesLog2), ops.shiftRight]),
    ...ops.wrap,
    ...(index === 0 ? [...i32(ops.bytesLog2), OP.i32Shl] : []),
    ...i32(255 << ops.bytesLog2),
    OP.i32And,
    ...load(TABLES_OFFSET + ((table * 256) << ops.bytesLog2)),
  ]

  const fetch = Array.from({ length: wordsPerStep }, (_, word) => [
    ...get(LOCAL.from),
    ...load(word * registerBytes),
    ...(word === 0 ? [...get(LOCAL.register), ops.xor] : []),
    ...set(LOCAL.words + word),
  ])
  const lookUps = Array.from({ length: TABLES }, (_, byte) =>
    lookUp(LOCAL.words + Math.floor(byte / registerBytes), byte % registerBytes, TABLES - 1 - byte),
  )
  /** A balanced tree, so that no XOR waits for fifteen others. */
  const xorAll = (terms: number[][]): number[] => {
    if (terms.length === 1) return must(terms[0], 'term')
    const half = terms.length / 2
    return [...xorAll(terms.slice(0, half)), ...xorAll(terms.slice(half)), ops.xor]
  }

  const stepOfSixteen = [...fetch.flat(), ...xorAll(lookUps), ...set(LOCAL.register), ...advance(TABLES)]
  const stepOfOne = [
    [...get(LOCAL.register), ...ops.wrap, ...get(LOCAL.from), OP.i32Load8u, 0, 0, OP.i32Xor],
    [...i32(255), OP.i32And, ...i32(ops.bytesLog2), OP.i32Shl, ...load(TABLES_OFFSET)],
    [...get(LOCAL.register), ops.constant, 8, ops.shiftRight, ops.xor, ...set(LOCAL.register)],
    advance(1),
  ].flat()
  return [
    [1, ...unsigned(1 + wordsPerStep), ops.type],
    [...i32(0), ...load(0), ...set(LOCAL.register)],
    whileNot([...get(LOCAL.from), ...i32(TABLES), OP.i32Add, ...get(LOCAL.to), OP.i32GtU], stepOfSixteen),
    whileNot([...get(LOCAL.from), ...get(LOCAL.to), OP.i32GeU], stepOfOne),
    [...i32(0), ...get(LOCAL.register), ops.store, 0, 0, OP.end],
  ].flat()
}

function whileNot(condition: number[], body: number[]): number[] {
  const leaveIf = [...condition, OP.brIf, 1]
  return [OP.block, EMPTY_BLOCK, OP.loop, EMPTY_BLOCK, ...leaveIf, ...body, OP.br, 0, OP.end, OP.end]
}

function section(id: number, content: number[]): number[] {
  return [id, ...unsigned(content.length), ...content]
}

function i32(value: number): number[] {
  return [OP.i32Const, ...signed(value)]
}

/** LEB128, unsigned. */
function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)]
}

/** LEB128, signed. */
function signed(value: number): number[] {
  return value >= -64 && value < 64 ? [value & 127] : [(value & 127) | 128, ...signed(value >> 7)]
}
