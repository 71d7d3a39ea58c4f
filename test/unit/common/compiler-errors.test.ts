import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { whyNotCompiled } from '../../../src/common/compiler-errors.ts'

async function whyNot(program: string, ...args: string[]): Promise<string> {
  const error: unknown = await promisify(execFile)(program, args, { timeout: 2_000, killSignal: 'SIGKILL' }).then(
    () => 'it worked',
    (reason: unknown) => reason,
  )
  return whyNotCompiled(program, error, { header: 'rdma/fabric.h', debian: 'libfabric-dev' })
}

const saying = async (text: string): Promise<string> => await whyNot('sh', '-c', 'printf "%s\n" "$0" >&2; exit 1', text)

test('no compiler', async () => {
  expect(await whyNot('no-such-compiler', '-o', 'x')).toBe(
    'there is no C compiler no-such-compiler (Debian: apt install gcc libc6-dev)',
  )
})

test.each([
  ['gcc', 'native/fabric/device.c:12:10: fatal error: rdma/fabric.h: No such file or directory'],
  ['clang', "native/fabric/device.c:12:10: fatal error: 'rdma/fabric.h' file not found"],
])('a header of a library, as %s says it', async (_, line) => {
  expect(await saying(`In file included from fabric.c:1:\n${line}\n   12 | #include <rdma/fabric.h>\n`)).toBe(
    'rdma/fabric.h is missing (Debian: apt install libfabric-dev)',
  )
})

test('a header of the C library', async () => {
  expect(await saying('crc32.c:1:10: fatal error: stdint.h: No such file or directory')).toBe(
    'stdint.h is missing (Debian: apt install libc6-dev)',
  )
})

test('anything else is its first error, in one line that is not too long', async () => {
  const text = `crc32.c: In function 'f':\ncrc32.c:7:3: error: expected ';'${' '.repeat(400)}\n    7 |   x\n`
  expect(await saying(text)).toBe("sh: crc32.c:7:3: error: expected ';'")
  expect(await saying(`crc32.c:7:3: error: ${'x'.repeat(4_000)}`)).toHaveLength(304)
  expect(await whyNot('sh', '-c', 'exit 3')).toBe('Command failed: sh -c exit 3')
})

test('one that is killed after its time', async () => {
  expect(await whyNot('sleep', '30')).toBe('sleep took too long')
})
