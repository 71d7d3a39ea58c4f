/** What sdk-multipart.test.ts asks of buckets, asked of attached ones. */
import { attachBucketsTo } from '../../support/gateway-suite.ts'

attachBucketsTo('tidegate')
await import('../s3/sdk-multipart.test.ts')
