import { expect, it } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import { createLogger, readableLine } from '../../../src/common/logging.ts'
import { Secret } from '../../../src/common/secret.ts'

function lines(run: (write: (line: string) => void) => void): string[] {
  const written: string[] = []
  run((line) => written.push(line))
  return written
}

it('writes one JSON object a line, with level, time and fields', () => {
  const [line = ''] = lines((write) =>
    createLogger({ level: 'info', pretty: false, write }).child({ door: 's3' }).info({ a: 1 }, 'hello'),
  )
  expect(line.endsWith('\n')).toBe(true)
  expect(JSON.parse(line)).toMatchObject({ level: 'info', door: 's3', a: 1, msg: 'hello' })
})

it('shows no secret at any level, in either form (lesson 5.2.10)', () => {
  const secret = new Secret('tell-nobody')
  for (const pretty of [false, true]) {
    const written = lines((write) => {
      const logger = createLogger({ level: 'trace', pretty, write })
      logger.trace({ secret, nested: { list: [secret] } }, `the secret is ${String(secret)}`)
      logger.error({ error: new TidegateError('AccessDenied', `with ${String(secret)}`) }, 'failed')
    })
    expect(written).toHaveLength(2)
    expect(written.join('')).not.toContain('tell-nobody')
    expect(written.join('')).toContain('[secret]')
  }
})

it('logs an error with code, details, stack and cause', () => {
  const error = new TidegateError('NoSuchKey', 'no key a', { details: { key: 'a' }, cause: new Error('inner') })
  const [line = ''] = lines((write) => createLogger({ level: 'info', pretty: false, write }).error({ error }, 'failed'))
  expect(JSON.parse(line)).toMatchObject({ error: { code: 'NoSuchKey', details: { key: 'a' } } })
  expect(line).toContain('caused by: Error: inner')
  expect(readableLine(line)).toContain('caused by: Error: inner')
})

it('is quiet below its level', () => {
  const written = lines((write) => {
    const logger = createLogger({ level: 'warn', pretty: false, write })
    expect(logger.isLevelEnabled('debug')).toBe(false)
    logger.info({}, 'not shown')
  })
  expect(written).toEqual([])
})

it('is readable on a terminal, which a client’s text cannot steer', () => {
  const escape = '\u001B[2J'
  const [line = ''] = lines((write) =>
    createLogger({ level: 'info', pretty: true, write }).warn(
      { key: escape, path: '/b/k', n: 2, error: new Error(escape) },
      `${escape} hello`,
    ),
  )
  expect(line).toMatch(/^\d\d:\d\d:\d\d\.\d{3} .*WARN .* \?\[2J hello key=.* path=\/b\/k n=2\n/)
  expect(line).not.toContain(escape)
})
