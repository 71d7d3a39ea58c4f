/* What the files of this addon share. */
#ifndef TIDEGATE_FUSE_CHANNEL_H
#define TIDEGATE_FUSE_CHANNEL_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define DEVICE_MAGIC 0x74694465u

typedef struct {
  uint32_t magic;
  int references;
  int descriptor;
  napi_env env;
  uv_poll_t poll;
  bool poll_open;
  bool polling;
  napi_async_cleanup_hook_handle cleanup;
  napi_ref callback;
  napi_ref slots_reference;
  napi_ref control_reference;
  uint8_t *slots;
  int32_t *control;
  uint32_t slot_count;
  size_t slot_bytes;
  uint64_t spin_ns_max;
} Device;

napi_value number(napi_env env, int64_t value);

/* The device in a handle, or NULL with an exception pending. */
Device *device_of(napi_env env, napi_value value);

/* The memory of a typed array of that kind (of a SharedArrayBuffer too), or false with an exception pending. */
bool memory_of(napi_env env, napi_value value, void **data, size_t *length, napi_typedarray_type expected);

/* Calls of pool-work.c. */
napi_value mount_call(napi_env env, napi_callback_info info);
napi_value unmount_call(napi_env env, napi_callback_info info);
napi_value notify_call(napi_env env, napi_callback_info info);

#endif
