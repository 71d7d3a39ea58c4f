import { describe, expect, it } from 'vitest'
import { OPERATION_NAMES, OPERATIONS } from '../../../../src/gateway/s3/operations.ts'
import { S3Error } from '../../../../src/gateway/s3/errors.ts'
import { route, routeKey } from '../../../../src/gateway/s3/routes.ts'
import { parseTarget } from '../../../../src/gateway/s3/target.ts'

function routed(line: string, copySource?: string): string {
  const [method = '', raw = ''] = line.split(' ')
  try {
    return route(method, parseTarget(raw, undefined, { domains: [], keyBytesMax: 1024 }), copySource).name
  } catch (error) {
    return error instanceof S3Error ? error.code : String(error)
  }
}

describe('the operation table', () => {
  it('names each operation as its row does, and gives each a route of its own', () => {
    for (const name of OPERATION_NAMES) expect(OPERATIONS[name].name).toBe(name)
    expect(new Set(Object.values(OPERATIONS).map(routeKey)).size).toBe(OPERATION_NAMES.length)
  })
})

describe('route', () => {
  it.each([
    ['GET /', 'ListBuckets'],
    ['PUT /b', 'CreateBucket'],
    ['HEAD /b', 'HeadBucket'],
    ['DELETE /b/', 'DeleteBucket'],
    ['GET /b', 'ListObjects'],
    ['GET /b?prefix=&delimiter=%2F&marker=', 'ListObjects'],
    ['GET /b?list-type=2&prefix=', 'ListObjectsV2'],
    ['GET /b?versions', 'ListObjectVersions'],
    ['GET /b?versions=&key-marker=', 'ListObjectVersions'],
    ['GET /b?uploads', 'ListMultipartUploads'],
    ['GET /b?location', 'GetBucketLocation'],
    ['GET /b?versioning', 'GetBucketVersioning'],
    ['PUT /b?versioning', 'PutBucketVersioning'],
    ['POST /b?delete', 'DeleteObjects'],
    ['GET /b/k', 'GetObject'],
    ['GET /b/k?x-id=GetObject', 'GetObject'],
    ['GET /b/k?versionId=', 'GetObject'],
    ['GET /b/k?partNumber=1', 'GetObject'],
    ['GET /b/k?response-content-type=a&X-Amz-Signature=', 'GetObject'],
    ['HEAD /b/k', 'HeadObject'],
    ['PUT /b/k', 'PutObject'],
    ['DELETE /b/k?versionId=x', 'DeleteObject'],
    ['GET /b/k?tagging', 'GetObjectTagging'],
    ['PUT /b/k?tagging', 'PutObjectTagging'],
    ['DELETE /b/k?tagging', 'DeleteObjectTagging'],
    ['GET /b/k?attributes', 'GetObjectAttributes'],
    ['POST /b/k?uploads', 'CreateMultipartUpload'],
    ['PUT /b/k?partNumber=1&uploadId=u', 'UploadPart'],
    ['POST /b/k?uploadId=u', 'CompleteMultipartUpload'],
    ['DELETE /b/k?uploadId=u', 'AbortMultipartUpload'],
    ['GET /b/k?uploadId=u', 'ListParts'],
  ])('%s is %s', (line, name) => expect(routed(line)).toBe(name))

  it('tells copies by their source', () => {
    expect(routed('PUT /b/k', '/s/k')).toBe('CopyObject')
    expect(routed('PUT /b/k?partNumber=1&uploadId=u', '/s/k')).toBe('UploadPartCopy')
    expect(routed('GET /b/k', '/s/k')).toBe('GetObject')
  })

  it.each([
    'GET /b?acl',
    'GET /b?policy',
    'GET /b?lifecycle',
    'GET /b?cors',
    'GET /b?website',
    'GET /b?object-lock',
    'GET /b?tagging',
    'GET /b?some-new-thing',
    'GET /b?acl=1',
    'PUT /b?acl',
    'DELETE /b?policy',
    'GET /b/k?acl',
    'GET /b/k?torrent',
    'GET /b/k?retention',
    'PUT /b/k?legal-hold',
    'POST /b/k?restore',
    'POST /b/k?select&select-type=2',
    'POST /b',
    'OPTIONS /b/k',
  ])('%s is NotImplemented, never the plain resource', (line) => expect(routed(line)).toBe('NotImplemented'))

  it('knows what no operation has', () => {
    expect(routed('POST /b/k')).toBe('MethodNotAllowed')
    expect(routed('PATCH /b/k')).toBe('MethodNotAllowed')
    expect(routed('PUT /')).toBe('MethodNotAllowed')
    expect(routed('GET /b?versions&uploads')).toBe('InvalidArgument')
  })
})
