/** The option table as text: `--help`, and docs/configuration.md. */
import { OPTION_ENTRIES, allowedFrom, optionFlag, optionKey, optionVariables } from './option-table.ts'
import type { OptionName, OptionSpec } from './option-table.ts'

const HELP_WIDTH = 100

/** The options part of `tidegate help serve`. */
export function optionsHelp(): string {
  const flags = OPTION_ENTRIES.filter(([, spec]) => allowedFrom(spec, 'flag'))
  return groups(flags)
    .map(([group, options]) => `${group}:\n${options.map(([name, spec]) => flagHelp(name, spec)).join('')}`)
    .join('\n')
}

function flagHelp(name: OptionName, spec: OptionSpec): string {
  const indent = ' '.repeat(6)
  const words = `${spec.help}${notes(spec)}${spec.repeat ? ' (repeatable)' : ''}`.split(' ')
  const lines: string[] = ['']
  for (const word of words) {
    if (`${lines.at(-1)} ${word}`.length > HELP_WIDTH - indent.length) lines.push(word)
    else lines[lines.length - 1] = `${lines.at(-1)} ${word}`.trimStart()
  }
  return `  ${optionFlag(name)} ${spec.metavar}\n${lines.map((line) => `${indent}${line}\n`).join('')}`
}

/** ` (default: 64MiB; 8MiB to 2GiB)` */
function notes(spec: OptionSpec): string {
  const value = spec.default ?? spec.derived
  const list = [...(value === undefined ? [] : [`default: ${value}`]), ...bounds(spec)]
  return list.length === 0 ? '' : ` (${list.join('; ')})`
}

function bounds({ min, max, zero }: OptionSpec): string[] {
  if (min !== undefined && zero === 'none') return [`0 for none, or at least ${min}`]
  if (min !== undefined && max !== undefined) return [`${min} to ${max}`]
  if (min !== undefined) return [`at least ${min}`]
  return max === undefined ? [] : [`at most ${max}`]
}

function groups(
  options: readonly (readonly [OptionName, OptionSpec])[],
): (readonly [string, (readonly [OptionName, OptionSpec])[]])[] {
  return [...Map.groupBy(options, ([, spec]) => spec.group as string)]
}

/** docs/configuration.md, whole. */
export function configurationPage(): string {
  const tables = groups(OPTION_ENTRIES).map(
    ([group, options]) =>
      `## ${group}\n\n| flag | environment | file | default | |\n|---|---|---|---|---|\n` +
      options.map(([name, spec]) => tableRow(name, spec)).join('\n'),
  )
  return `${[INTRODUCTION, ...tables, USERS].join('\n\n')}\n`
}

function tableRow(name: OptionName, spec: OptionSpec): string {
  const cell = (allowed: boolean, text: string): string => (allowed ? `\`${text}\`` : '')
  const variables = optionVariables(name, spec).map((variable) => `\`${variable}\``)
  const value = spec.default === undefined ? (spec.derived ?? '') : `\`${spec.default}\``
  return `| ${[
    cell(allowedFrom(spec, 'flag'), `${optionFlag(name)} ${spec.metavar}`),
    allowedFrom(spec, 'environment') ? variables.join(', ') : '',
    cell(allowedFrom(spec, 'file'), optionKey(name)),
    value,
    [spec.help, ...bounds(spec), ...(spec.repeat ? ['a list'] : [])].join('; '),
  ].join(' | ')} |`
}

const INTRODUCTION = `# Configuration

<!-- Generated from src/config/option-table.ts: npm run -s tidegate -- config docs > docs/configuration.md -->

Every option can be given in three ways, the stronger first: as a flag, as an environment variable, in a YAML file named by
\`--config\`. What is given nowhere has its default. Nothing unknown is ignored: an unknown flag, \`TIDEGATE_*\` variable or
key ends the command with exit code 2 and the name of the nearest known one; so does a value that cannot be used, and
\`tidegate config check\` takes the same flags and says so without starting anything.

Sizes are written with their unit (\`512MiB\`, \`4GB\`, \`1048576\`), times too (\`500ms\`, \`30s\`, \`2m\`, \`1h\`). Lists are given by
repeating the flag, with commas in a variable, or as a YAML list. An empty variable counts as not set.`

const USERS = `A variable that ends in \`_FILE\` names a file that holds the value, and a line feed perhaps: so containers are handed secrets, which then stand in
no environment. The commands that talk to a gateway read them too. A variable and its \`_FILE\` are not given both; \`TIDEGATE_*\` goes before \`MINIO_*\`.

Without user and password the first start makes an access key and a secret at random, keeps them in \`credentials\` in the data
directory (mode 0600) and shows them once on the terminal; they are never logged. \`tidegate credentials\`
prints them for a shell. There is no built-in default secret, and
secrets that are publicly known as somebody's default (such as \`minioadmin\`) are refused.

## Users

Further users stand in the file only:

\`\`\`yaml
s3: 0.0.0.0:9000
data: /var/lib/tidegate
cache-memory: 4GiB
users:
  - name: alice
    accessKey: alice-key
    secretKeyFile: /run/secrets/alice # or secretKey: '...'
    policies: [readwrite]
  - name: reports
    displayName: Reporting
    id: 0f3c # canonical user id in S3 answers; the name when absent
    email: reports@example.com
    accessKey: reports-key
    secretKeyFile: /run/secrets/reports
    policies:
      - Version: '2012-10-17'
        Statement:
          - { Effect: Allow, Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::reports/*'] }
\`\`\`

A user without policies may do nothing. Access keys, names and ids must differ from each other.`
