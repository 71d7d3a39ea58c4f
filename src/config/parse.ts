/**
 * Flags, environment and YAML file to one typed, frozen value. Precedence: flag, environment, file, default. Pure but for
 * `readFile`, so that a test needs no files. Nothing unknown is ignored: a misspelt option is an error that names the
 * nearest known one, whichever of the three it stands in.
 */
import { createRequire } from 'node:module'
import { Secret } from '../common/secret.ts'
import { ConfigError } from './config-error.ts'
import { environmentText, readSecretFile } from './environment.ts'
import { refuseKnownSecret } from './known-secrets.ts'
import { didYouMean } from './nearest.ts'
import { checkNeighbours } from './neighbour-options.ts'
import {
  OPTIONS,
  OPTION_ENTRIES,
  allowedFrom,
  optionFlag,
  optionKey,
  optionVariable,
  optionVariables,
} from './option-table.ts'
import { parseUsers } from './users.ts'
import { PARSERS, ValueError } from './values.ts'
import type * as Yaml from 'yaml'
import type { EnvironmentInput } from './environment.ts'
import type { OptionName, OptionSpec } from './option-table.ts'
import type { UserConfig } from './users.ts'
import type { ValueByType, ValueType } from './values.ts'

type ValueOf<S> = S extends { readonly type: infer T extends ValueType }
  ? S extends { readonly repeat: true }
    ? readonly ValueByType[T][]
    : S extends { readonly default: string }
      ? ValueByType[T]
      : ValueByType[T] | undefined
  : never

/** The value of every option in the table; its type follows from the table. */
export type OptionValues = { readonly [N in OptionName]: ValueOf<(typeof OPTIONS)[N]> }

export interface TlsFiles {
  /** PEM. */
  readonly certificate: string
  readonly key: Secret
}

export interface EtcdLogin {
  readonly user: string
  readonly password: Secret
}

export interface RootCredentials {
  readonly accessKey: string
  readonly secretKey: Secret
}

export interface Config extends Omit<OptionValues, 'rootUser' | 'rootPassword' | 'cacheMemory' | 'hashWorkers'> {
  readonly cacheMemory: number
  readonly hashWorkers: number
  readonly tls: TlsFiles | undefined
  readonly metaLogin: EtcdLogin | undefined
  /** Undefined: from the data directory, made there at the first start (credentials.ts). */
  readonly root: RootCredentials | undefined
  readonly users: readonly UserConfig[]
}

export interface ParseInput extends EnvironmentInput {
  /** After the sub-command. */
  readonly argv: readonly string[]
  readonly machine: { readonly memoryBytes: number; readonly cpuCount: number }
}

/** An option's texts and where they were written. */
interface Given {
  readonly texts: readonly string[]
  /** `on the command line`, `in TIDEGATE_S3`, ... for messages. */
  readonly where: string
  /** Messages do not repeat the texts. */
  readonly isHidden?: boolean
}
type GivenBySource = Partial<Record<OptionName, Given>>

/** Variables beside the option table that begin with TIDEGATE_ and are not ours to refuse: they tell commands where the gateway is and who asks. */
const CLIENT_VARIABLES: readonly string[] = ['TIDEGATE_GATEWAY', 'TIDEGATE_TOKEN']
const HASH_WORKERS_MAX = 8
// What takes long to load and is not always wanted is loaded where it is: `tidegate health` reads a configuration every few seconds.
const required = createRequire(import.meta.url)
const CACHE_MEMORY_BYTES_MIN = PARSERS.bytes(OPTIONS.cacheMemory.min)

/** @throws ConfigError */
export function parseConfig(input: ParseInput): Config {
  const flags = readFlags(input.argv)
  const environment = readEnvironment(input)
  const configPath = pick('config', flags, environment, {}).at(0)
  const file =
    configPath === undefined ? { given: {}, users: [] } : readConfigFile(configPath as string, input.readFile)

  const values: Partial<Record<OptionName, unknown>> = {}
  for (const [name, spec] of OPTION_ENTRIES) {
    const parsed = pick(name, flags, environment, file.given)
    values[name] = spec.repeat ? Object.freeze(parsed) : parsed[0]
  }
  const { rootUser, rootPassword, ...options } = values as OptionValues
  const root = rootCredentials(rootUser, rootPassword)
  const clash = file.users.find((user) => user.accessKey === root?.accessKey)
  if (clash !== undefined) throw new ConfigError(`users: ${clash.name} has the access key of the root user`)
  checkMetadata(options)
  checkNeighbours(options)
  return Object.freeze({
    ...options,
    cacheMemory: options.cacheMemory ?? Math.max(CACHE_MEMORY_BYTES_MIN, Math.floor(input.machine.memoryBytes / 4)),
    hashWorkers: options.hashWorkers ?? Math.min(HASH_WORKERS_MAX, Math.max(1, input.machine.cpuCount)),
    tls: readTls(options.tlsCert, options.tlsKey, input.readFile),
    metaLogin: readMetaLogin(options, input.readFile),
    root,
    users: file.users,
  })
}

/** Names of options that say how etcd is reached. */
const REACHING_ETCD = ['metaCa', 'metaCert', 'metaKey', 'metaUser', 'metaPasswordFile'] as const

function checkMetadata(
  options: Pick<
    OptionValues,
    | 'ack'
    | 'meta'
    | 'cluster'
    | 'clusterJoin'
    | 'staleReads'
    | 'remote'
    | 'remoteShared'
    | (typeof REACHING_ETCD)[number]
  >,
): void {
  const { ack, meta, metaCa, metaCert, metaKey, cluster, clusterJoin, staleReads, remote, remoteShared } = options
  if (meta !== undefined && cluster !== undefined)
    throw new ConfigError(
      '--meta and --cluster: the first names an etcd that somebody else runs, the second has one of its own; give one of them',
    )
  if (cluster === undefined && clusterJoin.length > 0)
    throw new ConfigError('--cluster-join names nodes, and there is no --cluster')
  const stray = REACHING_ETCD.find((name) => options[name] !== undefined)
  if (stray !== undefined && meta === undefined)
    throw new ConfigError(`${optionFlag(stray)} says how etcd is reached, and there is no --meta`)
  if ((metaCert === undefined) !== (metaKey === undefined))
    throw new ConfigError('--meta-cert and --meta-key: give both or neither')
  if ((metaCa ?? metaCert) !== undefined && meta?.tls === false)
    throw new ConfigError('--meta-ca and --meta-cert are for etcds://, and --meta begins with etcd://')
  const shared = meta === undefined ? cluster && '--cluster' : '--meta'
  if (ack === 'replicated' && shared === undefined)
    throw new ConfigError(
      '--ack replicated: replicated needs more than one node, and there is neither --meta nor --cluster',
    )
  if (staleReads && shared === undefined)
    throw new ConfigError('--stale-reads on: it is for metadata in etcd, and there is neither --meta nor --cluster')
  if (remoteShared && (shared === undefined || remote?.kind !== 'file'))
    throw new ConfigError(
      '--remote-shared on: it says that all gateways which share metadata (--meta, --cluster) see the directory of --remote file://, and there is no such thing',
    )
  if (shared !== undefined && remote?.kind === 'file' && !remoteShared)
    throw new ConfigError(
      `${shared} and --remote file://${remote.directory}: what is persisted there must be in reach of every gateway that shares the metadata: ` +
        'if that directory is the same on all of them, say so with --remote-shared on',
    )
}

function readMetaLogin(
  { metaUser, metaPasswordFile }: Pick<OptionValues, 'metaUser' | 'metaPasswordFile'>,
  readFile: ParseInput['readFile'],
): EtcdLogin | undefined {
  if (metaUser === undefined && metaPasswordFile === undefined) return undefined
  if (metaUser === undefined || metaPasswordFile === undefined)
    throw new ConfigError('--meta-user and --meta-password-file: give both or neither')
  const password = readSecretFile('--meta-password-file', metaPasswordFile, readFile)
  return { user: metaUser, password: new Secret(password) }
}

function readFlags(argv: readonly string[]): GivenBySource {
  const byFlag = new Map(
    OPTION_ENTRIES.filter(([, spec]) => allowedFrom(spec, 'flag')).map(([name, spec]) => [
      optionFlag(name),
      { name, spec },
    ]),
  )
  const texts = new Map<OptionName, string[]>()
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index] ?? ''
    if (!argument.startsWith('--'))
      throw new ConfigError(`unexpected argument ${JSON.stringify(argument)}: options begin with --`)
    const equals = argument.indexOf('=')
    const flag = equals < 0 ? argument : argument.slice(0, equals)
    const option = byFlag.get(flag)
    if (option === undefined) throw new ConfigError(`unknown option ${flag}${didYouMean(flag, [...byFlag.keys()])}`)
    const text = equals < 0 ? argv[++index] : argument.slice(equals + 1)
    if (text === undefined) throw new ConfigError(`${flag} wants a value: ${flag} ${option.spec.metavar}`)
    const before = texts.get(option.name)
    if (before !== undefined && option.spec.repeat === undefined) throw new ConfigError(`${flag} is given twice`)
    texts.set(option.name, [...(before ?? []), ...textsOf(option.spec, text)])
  }
  const given: GivenBySource = {}
  for (const [name, list] of texts) given[name] = { texts: list, where: 'on the command line' }
  return given
}

function readEnvironment(input: EnvironmentInput): GivenBySource {
  const given: GivenBySource = {}
  const known = new Set<string>(CLIENT_VARIABLES)
  for (const [name, spec] of OPTION_ENTRIES) {
    if (!allowedFrom(spec, 'environment')) continue
    for (const variable of optionVariables(name, spec)) known.add(variable)
    const found = environmentText(name, input)
    if (found !== undefined) given[name] = { ...found, texts: textsOf(spec, found.text) }
  }
  for (const variable of Object.keys(input.env)) {
    if (variable.startsWith('TIDEGATE_') && !known.has(variable)) {
      throw new ConfigError(`unknown environment variable ${variable}${didYouMean(variable, [...known])}`)
    }
  }
  return given
}

function readConfigFile(
  path: string,
  readFile: (path: string) => string,
): { given: GivenBySource; users: readonly UserConfig[] } {
  const where = `in ${path}`
  const content = parseYaml(path, readFile)
  const known = new Map(
    OPTION_ENTRIES.filter(([, spec]) => allowedFrom(spec, 'file')).map(([name, spec]) => [
      optionKey(name),
      { name, spec },
    ]),
  )
  const given: GivenBySource = {}
  for (const [key, value] of Object.entries(content)) {
    if (key === 'users') continue
    const option = known.get(key)
    if (option === undefined)
      throw new ConfigError(`unknown key ${key} ${where}${didYouMean(key, [...known.keys(), 'users'])}`)
    const items: unknown[] = Array.isArray(value) && option.spec.repeat ? value : [value]
    given[option.name] = { where, texts: items.map((item) => scalarText(item, `${key} ${where}`)) }
  }
  return { given, users: parseUsers(content['users'], path, readFile) }
}

function parseYaml(path: string, readFile: (path: string) => string): Record<string, unknown> {
  let text: string
  try {
    text = readFile(path)
  } catch (error) {
    throw new ConfigError(`--config: cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
  const { parseDocument } = required('yaml') as typeof Yaml
  const document = parseDocument(text, { prettyErrors: true })
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined)
    throw new ConfigError(`--config: ${path} is not valid YAML: ${problem.message}`, { cause: problem })
  // A few aliases are fine; the bound keeps a file from unfolding into gigabytes.
  const value: unknown = document.toJS({ maxAliasCount: 100 })
  if (value === null || value === undefined) return {}
  if (typeof value !== 'object' || Array.isArray(value))
    throw new ConfigError(`--config: ${path} is not a mapping of options`)
  return value as Record<string, unknown>
}

function scalarText(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value)
  throw new ConfigError(`${where} is ${JSON.stringify(value)}, not a text or a whole number`)
}

function textsOf(spec: OptionSpec, text: string): string[] {
  return spec.repeat ? text.split(',').map((part) => part.trim()) : [text]
}

/** The parsed values of the strongest source that gives any. */
function pick(
  name: OptionName,
  ...sources: readonly [flags: GivenBySource, environment: GivenBySource, file: GivenBySource]
): unknown[] {
  const spec: OptionSpec | undefined = OPTION_ENTRIES.find(([one]) => one === name)?.[1]
  if (spec === undefined) return []
  const fallback = spec.default === undefined ? [] : [spec.default]
  const given: Given = sources.find((source) => source[name] !== undefined)?.[name] ?? {
    texts: fallback,
    where: 'by default',
  }
  return given.texts.map((text) => {
    try {
      return withinBounds(spec, PARSERS[spec.type](text))
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      const isHidden = given.isHidden === true || spec.type === 'secret' || error.mayHoldSecret
      const shown = isHidden ? 'the value' : JSON.stringify(text)
      throw new ConfigError(`${optionLabel(name, spec)}: ${shown} ${given.where} is not ${error.message}`, {
        cause: error,
      })
    }
  })
}

/** @throws ValueError */
function withinBounds<T>(spec: OptionSpec, value: T): T {
  const { min, max } = spec
  const isNone = spec.zero === 'none' && Number(value) === 0
  if (min !== undefined && !isNone && Number(value) < Number(PARSERS[spec.type](min))) {
    throw new ValueError(`at least ${min}`)
  }
  if (max !== undefined && Number(value) > Number(PARSERS[spec.type](max))) throw new ValueError(`at most ${max}`)
  return value
}

function optionLabel(name: OptionName, spec: OptionSpec): string {
  return allowedFrom(spec, 'flag') ? optionFlag(name) : optionVariable(name)
}

function rootCredentials(accessKey: string | undefined, secretKey: Secret | undefined): RootCredentials | undefined {
  if (accessKey === undefined && secretKey === undefined) return undefined
  if (accessKey === undefined || secretKey === undefined) {
    throw new ConfigError('TIDEGATE_ROOT_USER and TIDEGATE_ROOT_PASSWORD: give both or neither')
  }
  refuseKnownSecret(secretKey, 'TIDEGATE_ROOT_PASSWORD')
  return { accessKey, secretKey }
}

function readTls(
  certificatePath: string | undefined,
  keyPath: string | undefined,
  readFile: ParseInput['readFile'],
): TlsFiles | undefined {
  if (certificatePath === undefined && keyPath === undefined) return undefined
  if (certificatePath === undefined || keyPath === undefined)
    throw new ConfigError('--tls-cert and --tls-key: give both or neither')
  const read = (flag: string, path: string): string => {
    try {
      return readFile(path)
    } catch (error) {
      throw new ConfigError(`${flag}: cannot read ${path}: ${(error as Error).message}`, { cause: error })
    }
  }
  const certificate = read('--tls-cert', certificatePath)
  const key = read('--tls-key', keyPath)
  const { createSecureContext } = process.getBuiltinModule('node:tls')
  try {
    createSecureContext({ cert: certificate, key })
  } catch (error) {
    throw new ConfigError(
      `--tls-cert ${certificatePath} and --tls-key ${keyPath} cannot be used: ${(error as Error).message}`,
      { cause: error },
    )
  }
  return { certificate, key: new Secret(key) }
}
