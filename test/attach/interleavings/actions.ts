/** What is done in an interleaving, and how often. */
import type { Random } from '../../model/random.ts'
import type { Clients } from './clients.ts'

type Action = (clients: Clients) => Promise<void>

const ACTIONS: readonly (readonly [string, number, Action])[] = [
  ['put', 12, (clients) => clients.put()],
  ['delete', 6, (clients) => clients.delete()],
  ['tag', 3, (clients) => clients.tag()],
  ['copy', 5, (clients) => clients.copy()],
  ['upload', 6, (clients) => clients.upload()],
  ['transact', 4, (clients) => clients.transact()],
  ['look', 6, (clients) => clients.look()],
  ['list', 4, (clients) => clients.list()],
  ['create', 6, (clients) => clients.create()],
  ['edit', 10, (clients) => clients.edit()],
  ['rename', 10, (clients) => clients.rename()],
  ['rename directory', 6, (clients) => clients.renameDirectory()],
  ['unlink', 4, (clients) => clients.unlink()],
  ['rmdir', 1, (clients) => clients.removeDirectory()],
  ['chmod', 2, (clients) => clients.mode()],
  ['outside put', 18, (clients) => clients.outsidePut()],
  ['outside delete', 8, (clients) => clients.outsideDelete()],
  ['weather', 2, (clients) => clients.weather()],
  ['job', 6, (clients) => clients.job()],
]
const TOTAL_WEIGHT = ACTIONS.reduce((sum, [, weight]) => sum + weight, 0)

export async function act(clients: Clients, random: Random): Promise<void> {
  const roll = random.next() * TOTAL_WEIGHT
  let passed = 0
  for (const [name, weight, action] of ACTIONS) {
    passed += weight
    if (roll >= passed) continue
    clients.count(name)
    return await action(clients)
  }
}
