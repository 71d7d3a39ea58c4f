/**
 * Arithmetic on CRC values, to join the CRCs of pieces without their bytes.
 *
 * A reflected CRC register is a polynomial over GF(2) whose coefficient of x^0 is the register's highest bit. Appending
 * n zero bytes multiplies it by x^(8n) modulo the CRC's polynomial, and with equal initial and final inversion
 * `crc(a + b) = crc(a) * x^(8 * length(b)) + crc(b)`. x^(8n) is made from the squares x^(2^k), so a join costs at most
 * one multiplication for each set bit of n; the last power is kept, since nearly all parts of an upload are of one length.
 */
import { assert, must } from '../assert.ts'
import type { CrcPolynomial, CrcRegister } from './crc-kernel.ts'

export interface CrcAlgebra {
  /** The CRC of two pieces, one after the other; `tailBytes` is the length of the second. */
  join(head: CrcRegister, tail: CrcRegister, tailBytes: number): CrcRegister
}

/** Powers x^(2^k) are needed up to 8 times the largest safe integer. */
const SQUARES = 56

export function createCrcAlgebra(polynomial: CrcPolynomial): CrcAlgebra {
  const squares = squaresOfX(polynomial)
  let lastBytes = -1
  let lastPower: CrcRegister = { low: 0, high: 0 }

  const powerOfBytes = (bytes: number): CrcRegister => {
    if (bytes === lastBytes) return lastPower
    let power = one(polynomial)
    let square = 3 // x^(2^3) is one zero byte
    for (let rest = bytes; rest > 0; rest = Math.floor(rest / 2), square++) {
      if (rest % 2 === 1) power = multiply(power, must(squares[square], 'square'), polynomial)
    }
    lastBytes = bytes
    lastPower = power
    return power
  }

  return {
    join(head, tail, tailBytes) {
      assert(Number.isSafeInteger(tailBytes) && tailBytes >= 0, `length ${tailBytes} of a piece`)
      const shifted = multiply(head, powerOfBytes(tailBytes), polynomial)
      return { low: (shifted.low ^ tail.low) >>> 0, high: (shifted.high ^ tail.high) >>> 0 }
    },
  }
}

function one(polynomial: CrcPolynomial): CrcRegister {
  return polynomial.widthBits === 32 ? { low: 0x80000000, high: 0 } : { low: 0, high: 0x80000000 }
}

function squaresOfX(polynomial: CrcPolynomial): CrcRegister[] {
  let power: CrcRegister = polynomial.widthBits === 32 ? { low: 0x40000000, high: 0 } : { low: 0, high: 0x40000000 }
  const squares = [power]
  while (squares.length < SQUARES) {
    power = multiply(power, power, polynomial)
    squares.push(power)
  }
  return squares
}

/** Takes the coefficients of `a` from x^0 up, while `factor` runs through b, b x, b x^2, ... */
function multiply(a: CrcRegister, b: CrcRegister, polynomial: CrcPolynomial): CrcRegister {
  let low = 0
  let high = 0
  let factorLow = b.low
  let factorHigh = b.high
  for (let bit = polynomial.widthBits - 1; bit >= 0; bit--) {
    const word = bit >= 32 ? a.high : a.low
    const taken = -((word >>> (bit & 31)) & 1)
    low ^= factorLow & taken
    high ^= factorHigh & taken
    const carry = -(factorLow & 1)
    factorLow = ((factorLow >>> 1) | (factorHigh << 31)) ^ (polynomial.low & carry)
    factorHigh = (factorHigh >>> 1) ^ (polynomial.high & carry)
  }
  return { low: low >>> 0, high: high >>> 0 }
}
