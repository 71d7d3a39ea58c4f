/** The value of `x-amz-copy-source`: percent-encoded but for the slashes. */
export function copySourceText(bucket: string, key: string): string {
  return `${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`
}
