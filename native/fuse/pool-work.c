/*
 * Calls that may wait for our own mount, and so run on libuv's pool: the thread that asks is the one that would have to
 * answer. Each returns a promise; or, when it could not even be queued, a negative errno.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* struct fuse_out_header. */
#define OUT_HEADER_BYTES 16

typedef struct {
  napi_async_work work;
  napi_deferred deferred;
  void (*run)(napi_env env, void *data);
  int64_t result;
  /* mount, unmount */
  char *strings[4];
  unsigned long flags;
  /* notifications: a descriptor of the work's own, since the device may be closed meanwhile and its number reused */
  int descriptor;
  uint8_t *messages;
  size_t messages_bytes;
} Work;

static void finish_work(napi_env env, napi_status status, void *data) {
  Work *work = data;
  if (status == napi_ok) napi_resolve_deferred(env, work->deferred, number(env, work->result));
  napi_delete_async_work(env, work->work);
  for (int index = 0; index < 4; index++) free(work->strings[index]);
  free(work->messages);
  if (work->descriptor > 0) close(work->descriptor);
  free(work);
}

static napi_value queue_work(napi_env env, Work *work, const char *name) {
  napi_value promise, label;
  napi_create_promise(env, &work->deferred, &promise);
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &label);
  napi_create_async_work(env, NULL, label, work->run, finish_work, work, &work->work);
  napi_queue_async_work(env, work->work);
  return promise;
}

static char *string_of(napi_env env, napi_value value) {
  size_t length = 0;
  napi_get_value_string_utf8(env, value, NULL, 0, &length);
  char *text = malloc(length + 1);
  if (text) napi_get_value_string_utf8(env, value, text, length + 1, NULL);
  return text;
}

static void run_mount(napi_env env, void *data) {
  Work *work = data;
  (void)env;
  int status = mount(work->strings[0], work->strings[1], work->strings[2], work->flags, work->strings[3]);
  work->result = status < 0 ? -errno : 0;
}

/* mount(source, target, type, options) -> promise of 0 | -errno. Always nosuid and nodev. */
napi_value mount_call(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Work *work = calloc(1, sizeof *work);
  if (!work) return number(env, -ENOMEM);
  for (int index = 0; index < 4; index++) work->strings[index] = string_of(env, arguments[index]);
  work->flags = MS_NOSUID | MS_NODEV;
  work->run = run_mount;
  return queue_work(env, work, "tidegate:mount");
}

static void run_unmount(napi_env env, void *data) {
  Work *work = data;
  (void)env;
  work->result = umount2(work->strings[0], (int)work->flags) < 0 ? -errno : 0;
}

/* unmount(target, lazy: boolean) -> promise of 0 | -errno */
napi_value unmount_call(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Work *work = calloc(1, sizeof *work);
  if (!work) return number(env, -ENOMEM);
  bool lazy = false;
  napi_get_value_bool(env, arguments[1], &lazy);
  work->strings[0] = string_of(env, arguments[0]);
  work->flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
  work->run = run_unmount;
  return queue_work(env, work, "tidegate:unmount");
}

/* Each message begins with its own length. ENOENT: the kernel holds nothing of what it was told to forget. */
static void run_notify(napi_env env, void *data) {
  Work *work = data;
  (void)env;
  for (size_t at = 0; at + OUT_HEADER_BYTES <= work->messages_bytes;) {
    uint32_t length;
    memcpy(&length, work->messages + at, sizeof length);
    if (length < OUT_HEADER_BYTES || length > work->messages_bytes - at) {
      work->result = -EINVAL;
      return;
    }
    ssize_t written;
    do {
      written = write(work->descriptor, work->messages + at, length);
    } while (written < 0 && errno == EINTR);
    if (written < 0 && errno != ENOENT && work->result == 0) work->result = -errno;
    at += length;
  }
}

/* notify(device, messages: Uint8Array) -> promise of 0 | -errno of the first that failed; all are tried */
napi_value notify_call(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  void *bytes;
  size_t length;
  if (!device || !memory_of(env, arguments[1], &bytes, &length, napi_uint8_array)) return NULL;
  int descriptor = fcntl(device->descriptor, F_DUPFD_CLOEXEC, 3);
  if (descriptor < 0) return number(env, -errno);
  Work *work = calloc(1, sizeof *work);
  if (!work || !(work->messages = malloc(length + 1))) {
    free(work);
    close(descriptor);
    return number(env, -ENOMEM);
  }
  memcpy(work->messages, bytes, length);
  work->messages_bytes = length;
  work->descriptor = descriptor;
  work->run = run_notify;
  return queue_work(env, work, "tidegate:notify");
}
