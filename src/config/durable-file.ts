import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Writes a whole small file so that after a power loss it is there whole or not at all: new name, sync, rename, sync of the folder. */
export async function writeFileDurably(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', mode)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
