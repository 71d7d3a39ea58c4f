/*
 * CRC-32 (the reflected polynomial of ISO-HDLC, as `zlib.crc32`) by carry-less multiplication, for processors of x86-64
 * that have it; and the reading of a file's pages with their checksums taken on the way. Elsewhere the module has no calls
 * and src/common/crc32.ts keeps to zlib, of which this is the faster twin.
 *
 * How it works. Bytes are a polynomial over GF(2), the first bit the highest power; what counts is its remainder by the
 * CRC's polynomial P. A stretch of 128 bits that stands n bits before another may be moved onto it: each half is
 * multiplied by x^(n + its own distance) mod P, which is short, and the products are XORed to what stands there. Eight
 * stretches are moved at a time over 1024 bits, since one multiplication need not wait for another (four at a time are a
 * fifth slower); then they are moved onto one, and the 128 bits that are left are taken byte by byte. In the reflected
 * order a product comes out one bit low: so powers are kept shifted by one. They are computed when the module is loaded.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define POLYNOMIAL 0x04c11db7u
#define POLYNOMIAL_REFLECTED 0xedb88320u
#define LANES 8
#define LANE_BYTES 16
#define STEP_BYTES (LANES * LANE_BYTES)

static uv_once_t prepared = UV_ONCE_INIT;
static uint32_t byte_table[256];
/* x^n mod P for the lower and the upper half of a stretch, moved over 1024 and over 128 bits. */
static uint64_t over_1024[2], over_128[2];

/* x^exponent mod P, reflected, shifted by one. */
static uint64_t power_of_x(unsigned exponent) {
  uint32_t power = 1, reflected = 0;
  for (unsigned step = 0; step < exponent; step++) power = (power << 1) ^ (power >> 31 ? POLYNOMIAL : 0);
  for (unsigned bit = 0; bit < 32; bit++) reflected |= (power >> bit & 1) << (31 - bit);
  return (uint64_t)reflected << 1;
}

static void prepare(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; bit++) remainder = (remainder >> 1) ^ (remainder & 1 ? POLYNOMIAL_REFLECTED : 0);
    byte_table[byte] = remainder;
  }
  over_1024[0] = power_of_x(1024 + 32);
  over_1024[1] = power_of_x(1024 - 32);
  over_128[0] = power_of_x(128 + 32);
  over_128[1] = power_of_x(128 - 32);
}

/* Takes the register over bytes one by one. */
static uint32_t step_bytes(uint32_t reg, const uint8_t *bytes, size_t length) {
  while (length--) reg = (reg >> 8) ^ byte_table[(reg ^ *bytes++) & 255];
  return reg;
}

__attribute__((target("pclmul,sse4.1"))) static inline __m128i load(const uint8_t *bytes) {
  return _mm_loadu_si128((const __m128i *)bytes);
}

__attribute__((target("pclmul,sse4.1"))) static inline __m128i move(__m128i stretch, __m128i powers, __m128i onto) {
  __m128i lower = _mm_clmulepi64_si128(stretch, powers, 0x00);
  __m128i upper = _mm_clmulepi64_si128(stretch, powers, 0x11);
  return _mm_xor_si128(_mm_xor_si128(lower, upper), onto);
}

__attribute__((target("pclmul,sse4.1"))) static uint32_t crc32_of(uint32_t crc, const uint8_t *bytes, size_t length) {
  uint32_t reg = ~crc;
  if (length < STEP_BYTES) return ~step_bytes(reg, bytes, length);
  __m128i lanes[LANES];
  for (int lane = 0; lane < LANES; lane++) lanes[lane] = load(bytes + LANE_BYTES * lane);
  lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128((int)reg));
  __m128i powers = _mm_set_epi64x((long long)over_1024[1], (long long)over_1024[0]);
  for (bytes += STEP_BYTES, length -= STEP_BYTES; length >= STEP_BYTES; bytes += STEP_BYTES, length -= STEP_BYTES) {
#pragma GCC unroll 8
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = move(lanes[lane], powers, load(bytes + LANE_BYTES * lane));
  }
  powers = _mm_set_epi64x((long long)over_128[1], (long long)over_128[0]);
  __m128i last = lanes[0];
#pragma GCC unroll 8
  for (int lane = 1; lane < LANES; lane++) last = move(last, powers, lanes[lane]);
  for (; length >= LANE_BYTES; bytes += LANE_BYTES, length -= LANE_BYTES) last = move(last, powers, load(bytes));
  uint8_t left[LANE_BYTES];
  _mm_storeu_si128((__m128i *)left, last);
  return ~step_bytes(step_bytes(0, left, sizeof left), bytes, length);
}

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

/* The memory of a typed array of that kind, of a SharedArrayBuffer too; or false with an exception pending. */
static bool memory_of(napi_env env, napi_value value, napi_typedarray_type expected, void **data, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == expected) return true;
  napi_throw_type_error(env, NULL, "not a typed array of the expected kind");
  return false;
}

/* crc32(bytes: Uint8Array, before: number) -> number */
static napi_value crc32_call(napi_env env, napi_callback_info info) {
  size_t count = 2, length;
  napi_value arguments[2];
  void *bytes;
  uint32_t before = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (!memory_of(env, arguments[0], napi_uint8_array, &bytes, &length)) return NULL;
  napi_get_value_uint32(env, arguments[1], &before);
  return number(env, crc32_of(before, bytes, length));
}

/* False at the end of the file, or with errno set. */
static bool read_all(int descriptor, uint8_t *into, size_t length, int64_t position) {
  for (size_t done = 0; done < length;) {
    ssize_t got = pread(descriptor, into + done, length - done, position + (int64_t)done);
    if (got == 0) return errno = 0, false;
    if (got < 0 && errno != EINTR) return false;
    if (got > 0) done += (size_t)got;
  }
  return true;
}

/*
 * readPages(descriptor, into: Uint8Array, position, pageBytes, pageCrcs: Uint32Array) -> 0: read, and all pages have these
 * checksums | 1: one has not, or the file ends too early | -errno. Blocks. Page by page, so that each is still in the
 * processor's cache when its checksum is taken.
 */
static napi_value read_pages_call(napi_env env, napi_callback_info info) {
  size_t count = 5, length, pages;
  napi_value arguments[5];
  uint8_t *into;
  uint32_t *crcs, page_bytes = 0;
  int32_t descriptor = -1;
  int64_t position = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_int32(env, arguments[0], &descriptor);
  napi_get_value_int64(env, arguments[2], &position);
  napi_get_value_uint32(env, arguments[3], &page_bytes);
  if (!memory_of(env, arguments[1], napi_uint8_array, (void **)&into, &length)) return NULL;
  if (!memory_of(env, arguments[4], napi_uint32_array, (void **)&crcs, &pages)) return NULL;
  if (page_bytes == 0 || pages != (length + page_bytes - 1) / page_bytes) return number(env, -EINVAL);
  for (size_t page = 0; page < pages; page++) {
    size_t at = page * page_bytes, bytes = length - at < page_bytes ? length - at : page_bytes;
    if (!read_all(descriptor, into + at, bytes, position + (int64_t)at)) return number(env, errno ? -errno : 1);
    if (crc32_of(0, into + at, bytes) != crcs[page]) return number(env, 1);
  }
  return number(env, 0);
}

static void export_call(napi_env env, napi_value exports, const char *name, napi_callback call) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, call, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  if (!__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1")) return exports;
  uv_once(&prepared, prepare);
  export_call(env, exports, "crc32", crc32_call);
  export_call(env, exports, "readPages", read_pages_call);
  return exports;
}
#else
NAPI_MODULE_INIT() {
  (void)env;
  return exports;
}
#endif
