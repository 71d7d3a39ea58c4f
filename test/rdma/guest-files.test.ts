/** What a guest boots from (guest/), without booting it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { archive } from './guest/initramfs.ts'
import { loadOrder } from './guest/kernel.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tidegate-guest-files-'))
})

afterEach(() => rmSync(directory, { recursive: true }))

function put(path: string, content: string): void {
  mkdirSync(dirname(join(directory, path)), { recursive: true })
  writeFileSync(join(directory, path), content)
}

/** As the kernel's build writes it, among much else. */
const module = (depends: string): string => `\u007fELF\0license=GPL\0depends=${depends}\0retpoline=Y\0`

async function order(...names: string[]): Promise<string[]> {
  return (await loadOrder(directory, names)).map((path) => relative(directory, path))
}

it('modules are loaded behind what they need, once, whatever their files are called', async () => {
  put('modules.builtin', 'kernel/lib/crc-itu.ko\n')
  put('kernel/a/one.ko', module('two,udp-tunnel,crc_itu'))
  put('kernel/b/two.ko', module('udp_tunnel'))
  put('kernel/c/udp-tunnel.ko', module(''))
  const all = ['kernel/c/udp-tunnel.ko', 'kernel/b/two.ko', 'kernel/a/one.ko']
  expect(await order('one', 'two')).toEqual(all)
  expect(await order('two', 'one')).toEqual(all)
  expect(await order('crc_itu')).toEqual([])
})

it('a module that this kernel does not have is said by its name', async () => {
  put('modules.builtin', '')
  put('kernel/a/one.ko', module('another'))
  await expect(order('one')).rejects.toThrow('no module another')
})

it('an archive is read back as the kernel reads it', () => {
  const content = Buffer.from('five!')
  const files = readArchive(
    archive([{ path: 'bin' }, { path: 'bin/one', content }, { path: 'two', content: new Uint8Array(4) }]),
  )
  expect(files).toEqual([
    ['bin', 0o040_755, ''],
    ['bin/one', 0o100_755, 'five!'],
    ['two', 0o100_755, '\0\0\0\0'],
    ['TRAILER!!!', 0, ''],
  ])
})

/** By init/initramfs.c: 110 bytes of header, of which the first six are the magic and then thirteen numbers of eight hexadecimal digits; name and content each end at a multiple of four. */
function readArchive(bytes: Buffer): [string, number, string][] {
  const found: [string, number, string][] = []
  for (let at = 0; at < bytes.length;) {
    expect(bytes.toString('latin1', at, at + 6)).toBe('070701')
    const number = (index: number): number =>
      Number.parseInt(bytes.toString('latin1', at + 6 + 8 * index, at + 14 + 8 * index), 16)
    const [mode, size, nameSize] = [number(1), number(6), number(11)]
    const contentAt = Math.ceil((at + 110 + nameSize) / 4) * 4
    const name = bytes.toString('latin1', at + 110, at + 110 + nameSize - 1)
    found.push([name, mode, bytes.toString('latin1', contentAt, contentAt + size)])
    at = Math.ceil((contentAt + size) / 4) * 4
  }
  return found
}
