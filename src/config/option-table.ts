/**
 * Every option of the gateway, once. From this table come the command-line flags (`--tls-cert`), the environment
 * (`TIDEGATE_TLS_CERT`), the keys of the YAML file (`tls-cert`), the text of `--help` and docs/configuration.md.
 *
 * `type` names a parser in values.ts, and so decides the type of the parsed value; `repeat` makes a list of it (a flag
 * given many times, a comma-separated variable, a YAML list). An option without `default` may be undefined, unless
 * parse.ts derives it from the machine, in which case `derived` says how.
 */
import { CLUSTER_OPTIONS } from './cluster-option-table.ts'
import type { OptionSpec, Source } from './option-spec.ts'

export type { OptionSpec, Source } from './option-spec.ts'

export const OPTIONS = {
  config: {
    type: 'path',
    group: 'Data',
    metavar: 'FILE',
    from: ['flag', 'environment'],
    help: 'YAML file with any of these options, and users',
  },

  s3: {
    type: 'address',
    group: 'Addresses',
    metavar: 'HOST:PORT',
    default: '127.0.0.1:9000',
    help: 'where the S3 API listens; port 0 means any free one',
  },
  http: {
    type: 'address',
    group: 'Addresses',
    metavar: 'HOST:PORT',
    default: '127.0.0.1:9001',
    help: 'where the KV API, the admin API, metrics and health listen; port 0 means any free one',
  },
  tlsCert: {
    type: 'path',
    group: 'Addresses',
    metavar: 'FILE',
    help: 'certificate chain in PEM; with --tls-key both ports speak https',
  },
  tlsKey: { type: 'path', group: 'Addresses', metavar: 'FILE', help: 'private key in PEM that belongs to --tls-cert' },
  domain: {
    type: 'hostname',
    group: 'Addresses',
    metavar: 'NAME',
    repeat: true,
    help: 'domain below which bucket names may stand (virtual-host style: BUCKET.NAME)',
  },
  externalUrl: {
    type: 'origin',
    group: 'Addresses',
    metavar: 'URL',
    help: 'address that clients sign for, when a proxy in front of the gateway changes it',
  },
  trustedProxy: {
    type: 'network',
    group: 'Addresses',
    metavar: 'IP[/BITS]',
    repeat: true,
    help: 'proxy whose X-Forwarded-* headers are believed; nobody else is',
  },

  data: {
    type: 'path',
    group: 'Data',
    metavar: 'DIR',
    default: './tidegate-data',
    help: 'data directory; made if absent, used by one process at a time',
  },
  mount: {
    type: 'path',
    group: 'Data',
    metavar: 'DIR',
    help: 'empty directory on which the namespace is mounted as a file system; not mounted when absent',
  },
  meta: {
    type: 'metadata',
    group: 'Data',
    metavar: 'URL',
    derived: 'in the data directory',
    help: 'metadata that several gateways share, in etcd: etcd://HOST:PORT,HOST:PORT/PREFIX, or etcds:// for TLS',
  },
  metaCa: {
    type: 'path',
    group: 'Data',
    metavar: 'FILE',
    derived: 'those that the system trusts',
    help: 'authorities in PEM that have signed the certificates of etcds:// members',
  },
  metaCert: {
    type: 'path',
    group: 'Data',
    metavar: 'FILE',
    help: 'certificate in PEM that the gateway shows etcds:// members; with --meta-key',
  },
  metaKey: { type: 'path', group: 'Data', metavar: 'FILE', help: 'private key in PEM that belongs to --meta-cert' },
  metaUser: { type: 'accessKey', group: 'Data', metavar: 'NAME', help: 'user of etcd; with --meta-password-file' },
  metaPasswordFile: {
    type: 'path',
    group: 'Data',
    metavar: 'FILE',
    help: 'file that holds the password of --meta-user, and a line feed perhaps',
  },
  staleReads: {
    type: 'switch',
    group: 'Data',
    metavar: 'on|off',
    default: 'off',
    help: 'while etcd has no majority, or cannot be reached, reads of shared metadata are answered from what this gateway knew before, not refused',
  },
  remote: {
    type: 'remote',
    group: 'Data',
    metavar: 'URL',
    derived: 'a folder of the data directory',
    help: 'remote store, where sealed segments end up: file:///DIR, or s3://BUCKET/PREFIX?endpoint=URL&region=NAME&style=path or host',
  },
  ack: {
    type: 'ack',
    group: 'Data',
    metavar: 'LEVEL',
    default: 'journal',
    help: 'how safe a write is before it is acknowledged, in buckets made from now on: memory, journal or persisted',
  },
  segmentSize: {
    type: 'bytes',
    group: 'Data',
    metavar: 'BYTES',
    default: '64MiB',
    min: '8MiB',
    max: '2GiB',
    help: 'a shared segment is sealed once it holds this much',
  },
  segmentAge: {
    type: 'duration',
    group: 'Data',
    metavar: 'TIME',
    default: '10s',
    min: '100ms',
    max: '1d',
    help: 'a shared segment that holds anything is sealed at this age',
  },
  backlogMax: {
    type: 'bytes',
    group: 'Data',
    metavar: 'BYTES',
    derived: '10GiB, or a quarter of the file system if that is less',
    min: '64MiB',
    help: 'what may wait for the remote store, at least 8 segments; from half of it on writers are slowed',
  },
  flushConcurrency: {
    type: 'count',
    group: 'Data',
    metavar: 'N',
    default: '4',
    max: '64',
    help: 'segments on their way to the remote store at once',
  },
  flushAge: {
    type: 'duration',
    group: 'Data',
    metavar: 'TIME',
    default: '5m',
    min: '1s',
    max: '7d',
    help: 'segments that have waited longer for the remote store go first, whosever turn it is',
  },
  namesInterval: {
    type: 'duration',
    group: 'Data',
    metavar: 'TIME',
    default: '5s',
    min: '100ms',
    max: '1h',
    help: 'changes of metadata go to the remote store about this often, once the bytes they name are there',
  },
  backupInterval: {
    type: 'duration',
    group: 'Data',
    metavar: 'TIME',
    default: '1d',
    max: '366d',
    help: 'backups of metadata are made this often in the remote store; 0s: only by "tidegate backup"',
  },
  backupKeep: {
    type: 'count',
    group: 'Data',
    metavar: 'N',
    default: '7',
    min: '1',
    max: '1000',
    help: 'backups kept; the oldest are dropped, and what only they need is freed',
  },
  collectInterval: {
    type: 'duration',
    group: 'Data',
    metavar: 'TIME',
    default: '1h',
    min: '1s',
    max: '30d',
    help: 'the remote store is compared with metadata this often: what belongs to nothing is removed, what is missing is told',
  },
  remoteConcurrency: {
    type: 'count',
    group: 'Data',
    metavar: 'N',
    default: '8',
    max: '256',
    help: 'requests to an s3:// remote store at once; reads and uploads get at most three quarters of them each',
  },
  remoteTimeout: {
    type: 'duration',
    group: 'Data',
    metavar: 'TIME',
    default: '30s',
    min: '1s',
    max: '10m',
    help: 'a request to an s3:// remote store on which no byte moves for this long is given up, and tried again',
  },
  remoteRate: {
    type: 'bytes',
    group: 'Data',
    metavar: 'BYTES',
    derived: 'no limit',
    min: '64KiB',
    help: 'bytes a second to and from an s3:// remote store, together',
  },
  remoteRequests: {
    type: 'count',
    group: 'Data',
    metavar: 'N',
    derived: 'no limit',
    help: 'requests a second to an s3:// remote store',
  },
  changeLogRevisions: {
    type: 'count',
    group: 'Data',
    metavar: 'N',
    default: '100000',
    min: '1000',
    help: 'revisions that the change log keeps for those who watch',
  },

  ...CLUSTER_OPTIONS,

  region: { type: 'region', group: 'S3', metavar: 'NAME', default: 'us-east-1', help: 'region that clients sign for' },
  buckets: {
    type: 'bucket',
    group: 'S3',
    metavar: 'NAMES',
    repeat: true,
    help: 'buckets made at start where they are absent',
  },

  cacheMemory: {
    type: 'bytes',
    group: 'Limits',
    metavar: 'BYTES',
    derived: 'a quarter of the memory that the cgroup allows',
    min: '32MiB',
    help: 'memory for cached blocks and for bodies on their way',
  },
  cacheDisk: {
    type: 'bytes',
    group: 'Limits',
    metavar: 'BYTES',
    derived: 'a tenth of the file system of the data directory',
    min: '64MiB',
    zero: 'none',
    help: 'disk for blocks that came back from an external remote store and for segments that have reached it',
  },
  diskReserve: {
    type: 'bytes',
    group: 'Limits',
    metavar: 'BYTES',
    default: '256MiB',
    help: 'free space below which writes are refused and deletes still work',
  },
  admissionWait: {
    type: 'duration',
    group: 'Limits',
    metavar: 'TIME',
    default: '30s',
    max: '1h',
    help: 'how long a write waits for room before it is told SlowDown',
  },
  hashWorkers: {
    type: 'count',
    group: 'Limits',
    metavar: 'N',
    derived: 'one for each CPU, at most 8',
    max: '64',
    help: 'threads that hash large bodies',
  },
  connectionsMax: {
    type: 'count',
    group: 'Limits',
    metavar: 'N',
    default: '10000',
    max: '1000000',
    help: 'connections held at once, for each port; more are closed at once',
  },
  idleTimeout: {
    type: 'duration',
    group: 'Limits',
    metavar: 'TIME',
    default: '2m',
    min: '1s',
    max: '1d',
    help: 'a connection on which nothing moves in the middle of a request is closed after this',
  },
  drainTimeout: {
    type: 'duration',
    group: 'Limits',
    metavar: 'TIME',
    default: '30s',
    max: '1d',
    help: 'how long requests in flight may take to finish after SIGTERM',
  },

  logLevel: {
    type: 'logLevel',
    group: 'Observability',
    metavar: 'LEVEL',
    default: 'info',
    help: 'trace, debug, info, warn, error or fatal',
  },
  accessLog: {
    type: 'accessLog',
    group: 'Observability',
    metavar: 'LEVEL',
    default: 'debug',
    help: 'level of the one line that each request logs: debug, info or off (server errors always log at warn)',
  },
  otlpEndpoint: {
    type: 'httpUrl',
    group: 'Observability',
    metavar: 'URL',
    help: 'OTLP/HTTP collector that metrics and traces are sent to, such as http://127.0.0.1:4318',
  },

  rootUser: {
    type: 'accessKey',
    group: 'Root user',
    metavar: 'NAME',
    from: ['environment'],
    derived: 'made at the first start',
    alsoEnvironment: ['MINIO_ROOT_USER'],
    orFile: true,
    help: 'access key of the root user',
  },
  rootPassword: {
    type: 'secret',
    group: 'Root user',
    metavar: 'SECRET',
    from: ['environment'],
    derived: 'made at the first start',
    alsoEnvironment: ['MINIO_ROOT_PASSWORD'],
    orFile: true,
    help: 'secret key of the root user',
  },
} as const

export type OptionName = keyof typeof OPTIONS

/** The table as plain specs, for code that goes over all of it. */
export const OPTION_ENTRIES: readonly (readonly [OptionName, OptionSpec])[] = Object.entries(
  OPTIONS satisfies Record<string, OptionSpec>,
) as [OptionName, OptionSpec][]

/** `tlsCert` -> `tls-cert`: the name that users write. */
export function optionKey(name: OptionName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

export function optionFlag(name: OptionName): string {
  return `--${optionKey(name)}`
}

export function optionVariable(name: OptionName): string {
  return `TIDEGATE_${optionKey(name).replaceAll('-', '_').toUpperCase()}`
}

/** Of the file that holds what `variable` would. */
export function fileVariable(variable: string): string {
  return `${variable}_FILE`
}

/** All that are read for an option, the stronger first. */
export function optionVariables(name: OptionName, spec: OptionSpec): string[] {
  return [optionVariable(name), ...(spec.alsoEnvironment ?? [])].flatMap((variable) =>
    spec.orFile ? [variable, fileVariable(variable)] : [variable],
  )
}

export function allowedFrom(spec: OptionSpec, source: Exclude<Source, 'default'>): boolean {
  return spec.from === undefined || spec.from.includes(source)
}
