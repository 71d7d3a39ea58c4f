/** What of a document is run: its `sh` blocks, and files that it shows. Blocks that only a person can fill in have another language. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../../support/run-command.ts'

export interface Section {
  readonly title: string
  /** In the order of the text. */
  readonly commands: readonly string[]
  /** `yaml` blocks that begin with `# PATH`. */
  readonly files: readonly { readonly path: string; readonly text: string }[]
}

/** @returns the sections `## ...` of a document below the repository, or with `chapter` the sections `### ...` of that one. */
export function sectionsOf(document: string, chapter?: string): Section[] {
  const text = readFileSync(join(REPOSITORY, document), 'utf8')
  if (chapter === undefined) return splitAt('## ', text)
  const found = textsAt('## ', text).find(({ title }) => title === chapter)
  if (found === undefined) throw new Error(`${document} has no chapter ${chapter}`)
  return splitAt('### ', found.body)
}

function splitAt(mark: string, text: string): Section[] {
  return textsAt(mark, text).map(({ title, body }) => {
    const blocks = [...body.matchAll(/^```(sh|yaml)\n(.*?)^```$/gms)].map(([, language, inner = '']) => ({
      language,
      inner,
    }))
    return {
      title,
      commands: blocks.flatMap(({ language, inner }) => (language === 'sh' ? [inner] : [])),
      files: blocks.flatMap(({ language, inner }) => {
        const path = /^# (\S+\/\S+)\n/.exec(inner)?.[1]
        return language === 'yaml' && path !== undefined ? [{ path, text: inner }] : []
      }),
    }
  })
}

/** Lines inside of blocks are no headings, even if they look like it. */
function textsAt(mark: string, text: string): { title: string; body: string }[] {
  const found: { title: string; lines: string[] }[] = []
  let isInBlock = false
  for (const line of text.split('\n')) {
    if (line.startsWith('```')) isInBlock = !isInBlock
    if (!isInBlock && line.startsWith(mark)) found.push({ title: line.slice(mark.length).trim(), lines: [] })
    else found.at(-1)?.lines.push(line)
  }
  return found.map(({ title, lines }) => ({ title, body: lines.join('\n') }))
}
