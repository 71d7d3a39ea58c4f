/**
 * `node crash-writer.ts DIRECTORY MANIFEST SEED`: follows plans in a directory of the mount until the mount is gone. A line of the manifest,
 * which lies outside of the mount, says `began NAME STEP` before a step and `synced NAME STEP` when its fsync has returned.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { DIRECTORIES, Plan, PLAN_KINDS, type Step } from './plans.ts'

const [directory = '', manifestPath = '', seed = '0'] = process.argv.slice(2)
const manifest = openSync(manifestPath, 'w')
const { O_CREAT, O_RDONLY, O_RDWR } = constants

function note(word: 'began' | 'synced', plan: Plan, step: number): void {
  writeSync(manifest, `${word} ${plan.name} ${step}\n`)
}

function withFile(path: string, flags: number, work: (descriptor: number) => void): void {
  const descriptor = openSync(path, flags, 0o644)
  try {
    work(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function syncDirectories(): void {
  for (const name of DIRECTORIES) withFile(name, O_RDONLY, fsyncSync)
}

function writeSynced(path: string, content: Buffer): void {
  withFile(path, O_RDWR | O_CREAT, (descriptor) => {
    for (let at = 0; at < content.length;) at += writeSync(descriptor, content, at)
    fsyncSync(descriptor)
  })
}

/** Whether it is synced. */
function take(plan: Plan, step: Step): boolean {
  const path = plan.pathIn(0)
  switch (step.do) {
    case 'replace':
      writeSynced(`${path}.new`, step.content)
      renameSync(`${path}.new`, path)
      syncDirectories()
      return true
    case 'remove':
      unlinkSync(path)
      syncDirectories()
      return true
    case 'move':
      renameSync(step.from, step.to)
      syncDirectories()
      return true
    case 'write':
    case 'truncate':
      withFile(path, O_RDWR | O_CREAT, (descriptor) => {
        if (step.do === 'truncate') ftruncateSync(descriptor, step.size)
        else writeSync(descriptor, step.bytes, 0, step.bytes.length, step.offset)
        if (step.sync) fsyncSync(descriptor)
      })
      return step.sync
  }
}

process.chdir(directory)
for (const name of DIRECTORIES) mkdirSync(name)
const plans = PLAN_KINDS.map((kind, index) => new Plan(kind, Number(seed) + index))
for (const { state } of plans) if (state) writeFileSync(state.path, state.content, { flush: true })
syncDirectories()
for (const plan of plans) note('synced', plan, 0)
process.stdout.write('ready\n')
try {
  for (let step = 1; ; step++) {
    for (const plan of plans) {
      const taken = plan.next()
      note('began', plan, step)
      if (take(plan, taken)) note('synced', plan, step)
    }
  }
} catch (error) {
  // The gateway was killed: ENOTCONN for what came later, ECONNABORTED or EIO for what was under way.
  const { code = '' } = error as NodeJS.ErrnoException
  if (!['ENOTCONN', 'ECONNABORTED', 'EIO'].includes(code)) throw error
}
