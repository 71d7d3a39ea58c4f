import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { readNotApplicable } from './not-applicable.ts'
import { readTap } from './tap.ts'

const verdicts = (output: string): string[] => readTap(output).map(({ number, verdict }) => `${number} ${verdict}`)

it('counts every assertion, and what was planned and did not run', () => {
  const output = "1..4\nok 1\nnot ok 2 - tried 'mkdir', expected 0, got EIO\nnoise\nok 4\n"
  expect(verdicts(output)).toEqual(['1 passed', '2 failed', '4 passed', '3 failed'])
  expect(readTap(output)[1]?.text).toBe("- tried 'mkdir', expected 0, got EIO")
})

it('skips what the suite itself does not expect here', () => {
  expect(verdicts('1..3\nok 1 # SKIP no chflags\nnot ok 2 # todo Linux\nok 3 # todo Linux\n')).toEqual([
    '1 skipped',
    '2 skipped',
    '3 passed',
  ])
  expect(verdicts('1..0 # SKIP not here\n')).toEqual([])
})

it('takes a script without a plan, or beyond it, for broken', () => {
  expect(verdicts('')).toEqual(['0 failed'])
  expect(verdicts('ok 1\n')).toEqual(['1 passed', '0 failed'])
  expect(verdicts('1..1\nok 1\nok 2\n')).toEqual(['1 passed', '2 passed', '0 failed'])
})

it('a list gives a reason for each line', () => {
  const [first] = readNotApplicable('# why\nrename/24.t 4-5,8 because\n')
  expect(first).toEqual({ file: 'rename/24.t', numbers: new Set([4, 5, 8]), reason: 'because' })
  expect(() => readNotApplicable('rename/24.t 4\n')).toThrow('not of the form')
  const committed = readFileSync(new URL('../lists/posix-not-applicable.txt', import.meta.url), 'utf8')
  expect(readNotApplicable(committed).length).toBeGreaterThan(0)
})
