import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { OPTION_ENTRIES, optionFlag, optionKey, optionVariable } from '../../../src/config/option-table.ts'
import { parseConfig } from '../../../src/config/parse.ts'
import type { Config, ParseInput } from '../../../src/config/parse.ts'

const MACHINE = { memoryBytes: 8 * 2 ** 30, cpuCount: 4 }

function parse(argv: string[] = [], env: ParseInput['env'] = {}, files: Record<string, string> = {}): Config {
  const readFile = (path: string): string => {
    const text = files[path]
    if (text === undefined) throw new Error(`ENOENT: no such file or directory, open '${path}'`)
    return text
  }
  return parseConfig({ argv, env, readFile, machine: MACHINE })
}

function withFile(yaml: string, argv: string[] = [], files: Record<string, string> = {}): Config {
  return parse(['--config', 'c.yaml', ...argv], {}, { 'c.yaml': yaml, ...files })
}

describe('where values come from', () => {
  it('has the defaults that DESIGN promises', () => {
    expect(parse()).toMatchObject({
      data: './tidegate-data',
      s3: { host: '127.0.0.1', port: 9000 },
      http: { host: '127.0.0.1', port: 9001 },
      region: 'us-east-1',
      ack: 'journal',
      admissionWait: 30_000,
      segmentSize: 64 * 2 ** 20,
      cacheMemory: 2 * 2 ** 30,
      hashWorkers: 4,
      remote: undefined,
      root: undefined,
      tls: undefined,
      users: [],
      domain: [],
    })
  })

  it('takes the flag before the environment before the file', () => {
    const yaml = 'region: from-file\nack: memory\nlog-level: warn\n'
    const config = parse(
      ['--config=c.yaml', '--region=from-flag'],
      { TIDEGATE_REGION: 'from-env', TIDEGATE_ACK: 'persisted' },
      { 'c.yaml': yaml },
    )
    expect(config).toMatchObject({ region: 'from-flag', ack: 'persisted', logLevel: 'warn' })
    expect(parse([], { TIDEGATE_CONFIG: 'c.yaml' }, { 'c.yaml': yaml }).region).toBe('from-file')
  })

  it('takes lists from repeated flags, commas and YAML', () => {
    expect(parse(['--domain', 'a.example', '--domain', 'b.example']).domain).toEqual(['a.example', 'b.example'])
    expect(parse([], { TIDEGATE_BUCKETS: 'one, two' }).buckets).toEqual(['one', 'two'])
    expect(withFile('trusted-proxy:\n - 10.0.0.0/8\n - ::1\n').trustedProxy).toEqual(['10.0.0.0/8', '::1'])
    expect(withFile('domain: a.example').domain).toEqual(['a.example'])
  })

  it('takes every option in each way that the table allows', () => {
    for (const [name, spec] of OPTION_ENTRIES) {
      expect(optionFlag(name)).toBe(`--${optionKey(name)}`)
      expect(optionVariable(name)).toMatch(/^TIDEGATE_[A-Z0-9_]+$/)
      expect(spec.help.length).toBeGreaterThan(10)
      if (spec.default !== undefined && spec.from === undefined) {
        expect(parse([optionFlag(name), spec.default])[name as 'region'], name).toEqual(parse()[name as 'region'])
        expect(parse([], { [optionVariable(name)]: spec.default })[name as 'region'], name).toEqual(
          parse()[name as 'region'],
        )
      }
    }
  })
})

it.each([
  ['s3://AKIAEXAMPLE:hunter2hunter2@bucket/a', 'without a user name'],
  ['s3://bucket?secretKey=hunter2hunter2', 'and not secretKey'],
  ['s3://bucket?hunter2hunter2', 'and not what it has'],
  ['s3://bucket?endpoint=http://u:hunter2hunter2@127.0.0.1', 'no user name in it'],
  ['http://u:hunter2hunter2@s3.example.com/bucket', 's3://BUCKET/PREFIX'],
])("refuses credentials in a remote store's URL, and does not repeat them: %s", (text, expected) => {
  const refusal = ((): string => {
    try {
      return JSON.stringify(parse(['--remote', text]))
    } catch (error) {
      return (error as Error).message
    }
  })()
  expect(refusal).toContain(expected)
  expect(refusal).not.toContain('hunter2')
})

describe('values', () => {
  it.each([
    ['--disk-reserve', '1KiB', { diskReserve: 1024 }],
    ['--cache-memory', '1.5 gib', { cacheMemory: 1.5 * 2 ** 30 }],
    ['--disk-reserve', '2MB', { diskReserve: 2e6 }],
    ['--cache-disk', '0', { cacheDisk: 0 }],
    ['--cache-disk', '64MiB', { cacheDisk: 64 * 2 ** 20 }],
    ['--disk-reserve', '4096', { diskReserve: 4096 }],
    ['--admission-wait', '500ms', { admissionWait: 500 }],
    ['--segment-age', '1.5m', { segmentAge: 90_000 }],
    ['--s3', '[::1]:0', { s3: { host: '::1', port: 0 } }],
    ['--s3', 'localhost:80', { s3: { host: 'localhost', port: 80 } }],
    ['--remote', 'file:///srv/a%20b', { remote: { kind: 'file', directory: '/srv/a b' } }],
    [
      '--remote',
      's3://bucket/a/prefix/?endpoint=http://127.0.0.1:7070&region=eu-1',
      {
        remote: {
          kind: 's3',
          bucket: 'bucket',
          prefix: 'a/prefix',
          endpoint: 'http://127.0.0.1:7070',
          region: 'eu-1',
          style: 'path',
        },
      },
    ],
    [
      '--remote',
      's3://my.bucket',
      {
        remote: {
          kind: 's3',
          bucket: 'my.bucket',
          prefix: '',
          endpoint: undefined,
          region: 'us-east-1',
          style: 'host',
        },
      },
    ],
    [
      '--remote',
      's3://bucket/p%3Dq?endpoint=https%3A%2F%2Fs3.example.com%3A443%2F&style=host',
      { remote: { prefix: 'p=q', endpoint: 'https://s3.example.com', style: 'host' } },
    ],
    ['--remote-concurrency', '3', { remoteConcurrency: 3 }],
    ['--remote-timeout', '5s', { remoteTimeout: 5_000 }],
    ['--remote-rate', '10MB', { remoteRate: 1e7 }],
    ['--remote-requests', '100', { remoteRequests: 100 }],
    ['--external-url', 'https://S3.example.com:443/', { externalUrl: 'https://s3.example.com' }],
    ['--otlp-endpoint', 'http://127.0.0.1:4318/', { otlpEndpoint: 'http://127.0.0.1:4318' }],
  ])('%s %s', (flag, text, expected) => {
    expect(parse([flag, text])).toMatchObject(expected)
  })

  it.each([
    ['--s3', '9000', 'HOST:PORT'],
    ['--s3', '127.0.0.1:99999', 'HOST:PORT'],
    ['--s3', '::1:9000', 'HOST:PORT'],
    ['--http', '[127.0.0.1]:1', 'HOST:PORT'],
    ['--cache-memory', '12 parsecs', 'a number of bytes'],
    ['--cache-memory', '-1', 'a number of bytes'],
    ['--cache-memory', '1constructor', 'a number of bytes'],
    ['--cache-memory', '1MiB', 'at least 32MiB'],
    ['--cache-disk', '1MiB', 'at least 64MiB'],
    ['--segment-size', '1MiB', 'at least 8MiB'],
    ['--segment-size', '3GiB', 'at most 2GiB'],
    ['--segment-age', '1ms', 'at least 100ms'],
    ['--admission-wait', '30', 'a time with its unit'],
    ['--hash-workers', '0', 'a whole number from 1'],
    ['--stale-reads', 'true', 'one of on, off'],
    ['--ack', 'Journal', 'one of memory, journal, replicated, persisted'],
    ['--remote', 's3://', 's3://BUCKET/PREFIX'],
    ['--remote', 's3:bucket', 's3://BUCKET/PREFIX'],
    ['--remote', 's3://bucket:9000/a', 'bucket:9000 is no bucket name; an address goes into endpoint=URL'],
    ['--remote', 's3://b/a', 'b is no bucket name'],
    ['--remote', 's3://bucket/a//b', 'with a prefix of at most'],
    ['--remote', 's3://bucket/a/../b', 'with a prefix of at most'],
    ['--remote', 's3://bucket/a b', 'with a prefix of at most'],
    ['--remote', 's3://bucket/a%2', 'two hex digits'],
    ['--remote', 's3://bucket?endpoint=127.0.0.1:9000', 'whose endpoint begins with http:// or https://'],
    ['--remote', 's3://bucket?endpoint=http://a/b', 'whose endpoint has no path'],
    ['--remote', 's3://bucket?region=', 'whose region is a name such as'],
    ['--remote', 's3://bucket?style=virtual', 'whose style is path or host'],
    ['--remote', 's3://bucket?region=a&region=b', 'that gives region once'],
    ['--remote-timeout', '10ms', 'at least 1s'],
    ['--remote-rate', '1', 'at least 64KiB'],
    ['--remote-concurrency', '0', 'a whole number from 1'],
    ['--remote', 'file://host/dir', 'file:///DIR'],
    ['--remote', '/srv', 'file:///DIR'],
    ['--external-url', 'https://a/b', 'without a path'],
    ['--external-url', 'https://u:p@a', 'without a user name'],
    ['--trusted-proxy', '10.0.0.0/33', 'an IP address'],
    ['--trusted-proxy', '10.0.0', 'an IP address'],
    ['--domain', 'a_b', 'a domain name'],
    ['--region', 'us east', 'a region name'],
    ['--buckets', 'minio', 'a bucket name'],
    ['--log-level', 'loud', 'one of trace'],
    ['--data', '', 'a path'],
  ])('refuses %s %j, naming option, value and where it stands', (flag, text, expected) => {
    const variable = `TIDEGATE_${flag.slice(2).replaceAll('-', '_').toUpperCase()}`
    expect(() => parse([flag, text])).toThrow(`${flag}: ${JSON.stringify(text)} on the command line is not `)
    expect(() => parse([flag, text])).toThrow(expected)
    if (text === '') return
    expect(() => parse([], { [variable]: text })).toThrow(`in the environment variable ${variable}`)
    const yaml = `${flag.slice(2)}: ${JSON.stringify(text)}`
    expect(() => withFile(yaml)).toThrow(`${flag}: ${JSON.stringify(text)} in c.yaml is not `)
  })
})

describe('metadata that are shared', () => {
  it.each([
    [['--meta', 'etcd://a:1', '--cluster', 'main'], '--meta and --cluster: '],
    [['--cluster-join', 'http://127.0.0.1:1'], '--cluster-join names nodes, and there is no --cluster'],
    [['--stale-reads', 'on'], '--stale-reads on: it is for metadata in etcd'],
    [['--ack', 'replicated'], '--ack replicated: replicated needs more than one node'],
    [['--cluster', 'main', '--remote', 'file:///x'], '--cluster and --remote file:///x: what is persisted there'],
    [['--meta', 'etcd://a:1', '--remote', 'file:///x'], '--meta and --remote file:///x: what is persisted there'],
    [['--remote', 'file:///x', '--remote-shared', 'on'], '--remote-shared on: '],
    [['--meta', 'etcd://a:1', '--remote', 's3://bucket/p', '--remote-shared', 'on'], '--remote-shared on: '],
    [['--cluster', 'a/b'], '--cluster: "a/b" on the command line is not a name'],
  ])('refuses %j', (argv, message) => {
    expect(() => parse(argv)).toThrow(message)
  })

  it('C34: takes a remote store that all nodes see', () => {
    const shared = parse(['--cluster', 'main', '--remote', 'file:///x', '--remote-shared', 'on'])
    expect(shared).toMatchObject({ remoteShared: true, remote: { kind: 'file' } })
    expect(parse(['--meta', 'etcd://a:1', '--remote', 's3://bucket/p']).remote).toMatchObject({ kind: 's3' })
  })

  it('takes copies on other nodes where there are some', () => {
    expect(parse(['--cluster', 'main', '--ack', 'replicated']).ack).toBe('replicated')
  })

  it('takes old answers only where that is said', () => {
    expect(parse(['--cluster', 'main']).staleReads).toBe(false)
    expect(parse(['--cluster', 'main', '--stale-reads', 'on']).staleReads).toBe(true)
    expect(parse(['--meta', 'etcd://a:1', '--stale-reads=off']).staleReads).toBe(false)
  })
})

describe('what is unknown', () => {
  it.each([
    [['--dat', 'x'], 'unknown option --dat, did you mean --data?'],
    [['--replicas', 'a'], 'unknown option --replicas'],
    [['serve'], 'unexpected argument "serve"'],
    [['--data'], '--data wants a value: --data DIR'],
    [['--data', 'a', '--data', 'b'], '--data is given twice'],
    [['--root-password', 'x'], 'unknown option --root-password'],
  ])('refuses %j', (argv, message) => {
    expect(() => parse(argv)).toThrow(message)
  })

  it('refuses unknown variables and keys, and names the nearest', () => {
    expect(() => parse([], { TIDEGATE_REGOIN: 'x' })).toThrow(
      'unknown environment variable TIDEGATE_REGOIN, did you mean TIDEGATE_REGION?',
    )
    expect(() => parse([], { TIDEGATE_GATEWAY: 'http://127.0.0.1:9001', TIDE: 'x', PATH: '' })).not.toThrow()
    expect(() => withFile('acks: journal')).toThrow('unknown key acks in c.yaml, did you mean ack?')
    expect(() => withFile('root-password: abcdefgh')).toThrow('unknown key root-password')
    expect(() => withFile('config: other.yaml')).toThrow('unknown key config')
    expect(() => withFile('__proto__: 1')).toThrow('unknown key __proto__')
  })

  it.each([
    ['a: [', 'c.yaml is not valid YAML'],
    ['a: 1\na: 2', 'c.yaml is not valid YAML'],
    ['- a', 'c.yaml is not a mapping'],
    ['data: [a, b]', 'data in c.yaml is ["a","b"], not a text'],
    ['data: {}', 'not a text'],
    ['data: null', 'not a text'],
  ])('refuses the file %j', (yaml, message) => {
    expect(() => withFile(yaml)).toThrow(message)
  })

  it('refuses a file it cannot read', () => {
    expect(() => parse(['--config', 'none.yaml'])).toThrow('--config: cannot read none.yaml: ENOENT')
  })

  it('takes an empty file', () => {
    expect(withFile('# nothing\n').region).toBe('us-east-1')
  })
})

describe('root user', () => {
  const secret = 'correct horse battery'

  it('comes from our variables before MinIO’s', () => {
    const config = parse([], {
      TIDEGATE_ROOT_USER: 'tide',
      TIDEGATE_ROOT_PASSWORD: secret,
      MINIO_ROOT_USER: 'minio',
      MINIO_ROOT_PASSWORD: 'other secret',
    })
    expect(config.root?.accessKey).toBe('tide')
    expect(config.root?.secretKey.reveal()).toBe(secret)
    expect(parse([], { MINIO_ROOT_USER: 'minio', MINIO_ROOT_PASSWORD: secret }).root?.accessKey).toBe('minio')
  })

  it('comes from files that variables name, with or without a line feed at their end', () => {
    const files = { '/s/user': 'tide\n', '/s/password': `${secret}\r\n`, '/s/bare': secret }
    const of = (env: ParseInput['env']): string => {
      const { root } = parse([], env, files)
      return `${root?.accessKey} ${root?.secretKey.reveal()}`
    }
    const ours = { TIDEGATE_ROOT_USER_FILE: '/s/user', TIDEGATE_ROOT_PASSWORD_FILE: '/s/password' }
    expect(of(ours)).toBe(`tide ${secret}`)
    expect(of({ MINIO_ROOT_USER_FILE: '/s/user', MINIO_ROOT_PASSWORD_FILE: '/s/bare' })).toBe(`tide ${secret}`)
    expect(of({ TIDEGATE_ROOT_USER: 'other', TIDEGATE_ROOT_PASSWORD_FILE: '/s/bare' })).toBe(`other ${secret}`)
    expect(of({ ...ours, MINIO_ROOT_USER: 'minio', MINIO_ROOT_PASSWORD: 'other secret' })).toBe(`tide ${secret}`)
    expect(of({ ...ours, TIDEGATE_ROOT_USER: '', MINIO_ROOT_USER_FILE: '' })).toBe(`tide ${secret}`)
  })

  it.each([
    [
      { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_USER_FILE: '/s/user' },
      'TIDEGATE_ROOT_USER and TIDEGATE_ROOT_USER_FILE: give one of them',
    ],
    [
      { MINIO_ROOT_PASSWORD: secret, MINIO_ROOT_PASSWORD_FILE: '/s/known' },
      'MINIO_ROOT_PASSWORD and MINIO_ROOT_PASSWORD_FILE: give one of them',
    ],
    [{ TIDEGATE_ROOT_USER_FILE: '/s/none' }, 'TIDEGATE_ROOT_USER_FILE: cannot read /s/none: ENOENT'],
    [{ MINIO_ROOT_PASSWORD_FILE: '/s/empty' }, 'MINIO_ROOT_PASSWORD_FILE: cannot read /s/empty: it is empty'],
    [{ TIDEGATE_ROOT_USER_FILE: '/s/user' }, 'give both or neither'],
    [{ TIDEGATE_ROOT_USER_FILE: '/s/user', TIDEGATE_ROOT_PASSWORD_FILE: '/s/known' }, 'publicly known'],
    [
      { TIDEGATE_ROOT_USER_FILE: '/s/two', TIDEGATE_ROOT_PASSWORD_FILE: '/s/known' },
      'TIDEGATE_ROOT_USER: the value in /s/two (TIDEGATE_ROOT_USER_FILE) is not an access key',
    ],
    [
      { MINIO_ROOT_PASSWORD_FILE: '/s/two' },
      'TIDEGATE_ROOT_PASSWORD: the value in /s/two (MINIO_ROOT_PASSWORD_FILE) is not a secret',
    ],
    [{ TIDEGATE_ROOT_PASWORD_FILE: '/s/user' }, 'did you mean TIDEGATE_ROOT_PASSWORD_FILE?'],
  ])('refuses %j without showing what a file holds', (env, message) => {
    const files = { '/s/user': 'tide\n', '/s/known': 'minioadmin\n', '/s/empty': '\n', '/s/two': 'hunter2\nhunter2\n' }
    const refused = (): Config => parse([], env, files)
    expect(refused).toThrow(message)
    expect(refused).not.toThrow(/hunter2|minioadmin/)
  })

  it('needs both, and a secret that is long enough', () => {
    expect(() => parse([], { TIDEGATE_ROOT_USER: 'tide' })).toThrow('give both or neither')
    const short = (): Config => parse([], { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_PASSWORD: 'seven77' })
    expect(short).toThrow(/TIDEGATE_ROOT_PASSWORD: the value in the environment .* is not a secret of 8/)
    expect(short, 'the secret is not shown').not.toThrow('seven77')
  })

  it.each(['minioadmin', 'password', 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'])(
    'refuses the known secret %s (lesson 5.2.19)',
    (known) => {
      const refused = (): Config => parse([], { MINIO_ROOT_USER: 'minioadmin', MINIO_ROOT_PASSWORD: known })
      expect(refused).toThrow('publicly known')
      expect(() => withFile(`users: [{name: u, accessKey: key, secretKey: ${known}}]`)).toThrow('publicly known')
    },
  )

  it('never shows in what is printed or serialised (lesson 5.2.10)', () => {
    const config = parse([], { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_PASSWORD: secret })
    for (const text of [
      JSON.stringify(config),
      inspect(config, { depth: 9, showHidden: true }),
      String(config.root?.secretKey),
      ''.concat(config.root?.secretKey as unknown as string),
    ]) {
      expect(text).not.toContain(secret)
    }
    expect(JSON.stringify(config)).toContain('[secret]')
  })
})

describe('users', () => {
  it('are read with defaults, inline policies and secret files', () => {
    const yaml = `users:
  - {name: alice, accessKey: alice-key, secretKeyFile: /s/alice, policies: [readwrite, {Version: '2012-10-17', Statement: []}]}
  - {name: bob, id: '0f3c', displayName: Bob B., email: b@example.com, accessKey: bob-key, secretKey: bobs long secret}
`
    const { users } = withFile(yaml, [], { '/s/alice': 'alices long secret\n' })
    expect(users[0]).toMatchObject({ name: 'alice', id: 'alice', displayName: 'alice', email: undefined })
    expect(users[0]?.secretKey.reveal()).toBe('alices long secret')
    expect(users[0]?.policies).toEqual(['readwrite', { Version: '2012-10-17', Statement: [] }])
    expect(users[1]).toMatchObject({ id: '0f3c', displayName: 'Bob B.', email: 'b@example.com', policies: [] })
  })

  it.each([
    ['users: {}', 'users in c.yaml is not a list'],
    ['users: [alice]', 'users[0] in c.yaml is not a mapping'],
    ['users: [{name: a, acessKey: abc}]', 'unknown key acessKey, did you mean accessKey?'],
    ['users: [{name: a, secretKey: long enough}]', 'accessKey is missing'],
    ['users: [{name: a, accessKey: abc}]', 'give either secretKey or secretKeyFile'],
    ['users: [{name: a, accessKey: abc, secretKey: long enough, secretKeyFile: f}]', 'give either'],
    ['users: [{name: a, accessKey: abc, secretKeyFile: /none}]', 'cannot read secretKeyFile /none'],
    ['users: [{name: a, accessKey: 12345, secretKey: long enough}]', 'accessKey is not a text (put it in quotes)'],
    ['users: [{name: a, accessKey: "a/b", secretKey: long enough}]', 'accessKey is not an access key'],
    ['users: [{name: a, id: root, accessKey: abc, secretKey: long enough}]', 'the id root is reserved'],
    ['users: [{name: a, accessKey: abc, secretKey: long enough, policies: readwrite}]', 'policies is not a list'],
    ['users: [{name: a, accessKey: abc, secretKey: long enough, policies: [1]}]', 'neither a name nor a document'],
    [
      'users: [{name: a, accessKey: abc, secretKey: long enough}, {name: b, accessKey: abc, secretKey: long enough}]',
      'two have the accessKey abc',
    ],
  ])('refuses %s', (yaml, message) => {
    expect(() => withFile(yaml)).toThrow(message)
  })

  it('may not take the root user’s access key', () => {
    const yaml = 'users: [{name: a, accessKey: tide, secretKey: long enough}]'
    const env = { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_PASSWORD: 'another secret', TIDEGATE_CONFIG: 'c.yaml' }
    expect(() => parse([], env, { 'c.yaml': yaml })).toThrow('a has the access key of the root user')
  })
})
