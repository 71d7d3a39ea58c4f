/** As the seams have it: without quotes, and without the mark that a proxy which compresses puts before them. */
export function bareEtag(etag: string): string {
  // Almost all are written so.
  const inside = etag.slice(1, -1)
  if (etag.startsWith('"') && etag.endsWith('"') && !inside.includes('"')) return inside
  return etag.replace(/^W\//, '').replaceAll('"', '')
}
