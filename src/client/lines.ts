import { badAnswer } from './errors.ts'

const LF = 10

/**
 * Lines of a stream of bytes, without their end. What one chunk holds whole is not copied.
 * @throws KvError BadAnswer when a line is longer than `bytesMax`
 */
export async function* linesOf(stream: AsyncIterable<Buffer>, bytesMax: number): AsyncGenerator<Buffer, void, void> {
  let held: Buffer[] = []
  let heldBytes = 0
  for await (const chunk of stream) {
    let from = 0
    for (let to = chunk.indexOf(LF); to >= 0; to = chunk.indexOf(LF, from)) {
      const rest = chunk.subarray(from, to)
      from = to + 1
      if (heldBytes === 0) yield rest
      else {
        yield Buffer.concat([...held, rest])
        held = []
        heldBytes = 0
      }
    }
    if (from === chunk.length) continue
    held.push(chunk.subarray(from))
    heldBytes += chunk.length - from
    if (heldBytes > bytesMax) throw badAnswer(`a line of more than ${bytesMax} bytes`)
  }
  if (heldBytes > 0) yield Buffer.concat(held)
}
