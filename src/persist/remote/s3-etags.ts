/** As the seams have it: without quotes, and without the mark that a proxy which compresses puts before them. */
export function bareEtag(etag: string): string {
  return etag.replace(/^W\//, '').replaceAll('"', '')
}
