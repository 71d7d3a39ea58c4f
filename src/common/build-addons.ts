/**
 * `npm run native`, and the end of `npm ci` in a checkout: builds the addons that this machine can build, and says in one line for each other what it
 * lacks and what happens without it. An addon that was not built now is built when it is first wanted, if that is possible by then.
 */
import { ADDON_NAMES, buildAddon, type AddonName } from './native-addon.ts'

const WITHOUT = {
  fuse: "mounts go by Node's own modules, for root only, and slower",
  checksums: 'checksums are reckoned by zlib, slower',
  fabric: 'nodes speak over TCP',
} as const satisfies Record<AddonName, string>

const built = await Promise.all(ADDON_NAMES.map(async (name) => ({ name, ...(await buildAddon(name)) })))
const ready = built.filter(({ reason }) => reason === undefined).map(({ name }) => `native/${name}`)
if (ready.length > 0) console.log(`built: ${ready.join(', ')}`)
for (const { name, reason } of built)
  if (reason !== undefined) console.log(`native/${name}: not built: ${reason}; ${WITHOUT[name]}`)
