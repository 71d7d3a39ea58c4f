/*
 * The device channel of the mount: what the FUSE protocol needs of the kernel and Node's own modules do not offer.
 * Mechanism only. Which options to mount with, what a request means, how long to wait, how to say what went wrong: all
 * of that is TypeScript (src/gateway/fuse/channel).
 *
 * A device is an open /dev/fuse in an opaque handle; JavaScript never closes its descriptor. Results are 0 (or a
 * descriptor) or a negative errno. What may wait for our own mount lies in pool-work.c.
 *
 * Memory: slots and the control block are shared memory made by JavaScript and referenced from here while the device is
 * open. The control block is int32:
 *
 *     [0]                 1 while reading has stopped because every slot is kept
 *     [1 + slot]          1 while JavaScript keeps the slot
 *     [1 + slots + 2 * i] slot of the batch's request i, then its length in bytes
 *
 * A device lives until its last reference goes: its handle in JavaScript, its poll handle. When an environment (main
 * thread or worker) ends, a clean-up hook closes the poll handle and the descriptor. With the last descriptor the kernel
 * ends the connection, so users of the mount get ENOTCONN and do not hang.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* linux/fuse.h: FUSE_DEV_IOC_CLONE. Written out, since that header is older than the kernel on many systems. */
#define DEVICE_IOC_CLONE _IOR(229, 0, uint32_t)

/* Batches in one turn of the event loop; then timers and sockets have theirs. */
#define ROUNDS_MAX 16
/* One head and its pieces in one writev; the port asserts the same number. */
#define PIECES_MAX 256

static void release_device(Device *device) {
  if (--device->references > 0) return;
  if (device->descriptor >= 0) close(device->descriptor);
  free(device);
}

napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

static napi_value undefined(napi_env env) {
  napi_value result;
  napi_get_undefined(env, &result);
  return result;
}

static int64_t integer_of(napi_env env, napi_value value) {
  int64_t result = 0;
  napi_get_value_int64(env, value, &result);
  return result;
}

static void throw_bug(napi_env env, const char *message) { napi_throw_type_error(env, NULL, message); }

Device *device_of(napi_env env, napi_value value) {
  Device *device = NULL;
  if (napi_get_value_external(env, value, (void **)&device) != napi_ok || !device || device->magic != DEVICE_MAGIC) {
    throw_bug(env, "not a FUSE device");
    return NULL;
  }
  return device;
}

/* ---- Closing ---------------------------------------------------------------------------------------------------- */

static void drop_reference(napi_env env, napi_ref *reference) {
  if (*reference) napi_delete_reference(env, *reference);
  *reference = NULL;
}

static void close_descriptor(Device *device) {
  if (device->descriptor < 0) return;
  close(device->descriptor);
  device->descriptor = -1;
}

static void on_poll_closed(uv_handle_t *handle) {
  Device *device = handle->data;
  if (device->cleanup) napi_remove_async_cleanup_hook(device->cleanup);
  device->cleanup = NULL;
  release_device(device);
}

static void close_device(Device *device) {
  device->polling = false;
  if (device->poll_open) {
    device->poll_open = false;
    uv_close((uv_handle_t *)&device->poll, on_poll_closed);
  }
  /* libuv allows this as soon as uv_close was called. */
  close_descriptor(device);
  drop_reference(device->env, &device->callback);
  drop_reference(device->env, &device->slots_reference);
  drop_reference(device->env, &device->control_reference);
}

static void on_environment_end(napi_async_cleanup_hook_handle handle, void *data) {
  Device *device = data;
  /* While it closes by itself, on_poll_closed removes the hook. */
  if (device->poll_open) close_device(device);
  (void)handle;
}

static void on_handle_collected(napi_env env, void *data, void *hint) {
  release_device(data);
  (void)env, (void)hint;
}

static napi_value device_handle(napi_env env, int descriptor) {
  Device *device = calloc(1, sizeof *device);
  napi_value handle;
  if (!device || napi_create_external(env, device, on_handle_collected, NULL, &handle) != napi_ok) {
    free(device);
    close(descriptor);
    return number(env, -ENOMEM);
  }
  device->magic = DEVICE_MAGIC;
  device->references = 1;
  device->descriptor = descriptor;
  device->env = env;
  return handle;
}

/* ---- Opening ---------------------------------------------------------------------------------------------------- */

static int open_fuse(void) { return open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC); }

/* openDevice() -> device | -errno */
static napi_value open_device(napi_env env, napi_callback_info info) {
  (void)info;
  int descriptor = open_fuse();
  return descriptor < 0 ? number(env, -errno) : device_handle(env, descriptor);
}

/* cloneDevice(descriptor) -> device | -errno. The same mount, with a queue of its own for what is being served. */
static napi_value clone_device(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  uint32_t original = (uint32_t)integer_of(env, arguments[0]);
  int descriptor = open_fuse();
  if (descriptor < 0) return number(env, -errno);
  if (ioctl(descriptor, DEVICE_IOC_CLONE, &original) < 0) {
    int failure = errno;
    close(descriptor);
    return number(env, -failure);
  }
  return device_handle(env, descriptor);
}

/* descriptorOf(device) -> its descriptor, to be named in mount options and never closed; -1 once closed */
static napi_value descriptor_of(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  return device ? number(env, device->descriptor) : NULL;
}

/* openSocketPair() -> [ours, theirs] | -errno, for fusermount3, which sends the device's descriptor over a socket */
static napi_value open_socket_pair(napi_env env, napi_callback_info info) {
  (void)info;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return number(env, -errno);
  napi_value result;
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, number(env, pair[0]));
  napi_set_element(env, result, 1, number(env, pair[1]));
  return result;
}

/* receiveDevice(socket) -> device | -errno; -EAGAIN when nothing was sent. Does not wait. */
static napi_value receive_device(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  char byte;
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec piece = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  ssize_t received;
  do {
    received = recvmsg((int)integer_of(env, arguments[0]), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return number(env, -errno);
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return number(env, -EAGAIN);
  int descriptor;
  memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) {
    int failure = errno;
    close(descriptor);
    return number(env, -failure);
  }
  return device_handle(env, descriptor);
}

/* closeDescriptor(descriptor): an end of a socket pair */
static napi_value close_plain_descriptor(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  close((int)integer_of(env, arguments[0]));
  return undefined(env);
}

/* closeDevice(device): ends reading and gives the descriptor back. May be called again. */
static napi_value close_device_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  if (!device) return NULL;
  close_device(device);
  return undefined(env);
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

static bool has_free_slot(const Device *device) {
  for (uint32_t slot = 0; slot < device->slot_count; slot++)
    if (!device->control[1 + slot]) return true;
  return false;
}

/*
 * Reads one request into each free slot until the kernel has no more. `failure` is set when the device gave out.
 * ENOENT: the request was interrupted before it got here. EINTR: a signal. Both mean: ask again.
 */
static uint32_t fill_slots(Device *device, uint64_t spin_until_ns, int *failure) {
  int32_t *batch = device->control + 1 + device->slot_count;
  uint32_t filled = 0;
  for (uint32_t slot = 0; slot < device->slot_count; slot++) {
    if (device->control[1 + slot]) continue;
    ssize_t length;
    do {
      length = read(device->descriptor, device->slots + slot * device->slot_bytes, device->slot_bytes);
    } while (length < 0 && (errno == ENOENT || errno == EINTR ||
                            (errno == EAGAIN && filled == 0 && spin_until_ns && uv_hrtime() < spin_until_ns)));
    if (length < 0) {
      if (errno != EAGAIN) *failure = errno;
      break;
    }
    batch[2 * filled] = (int32_t)slot;
    batch[2 * filled + 1] = (int32_t)length;
    filled++;
  }
  return filled;
}

/* One call into JavaScript for a whole batch: (count, failure). False when JavaScript cannot run any more. */
static bool deliver(Device *device, uint32_t count, int failure) {
  napi_env env = device->env;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
  napi_value callback, global, result, arguments[2];
  napi_get_reference_value(env, device->callback, &callback);
  napi_get_global(env, &global);
  napi_create_uint32(env, count, &arguments[0]);
  napi_create_int32(env, failure, &arguments[1]);
  napi_status status = napi_make_callback(env, NULL, global, callback, 2, arguments, &result);
  if (status == napi_pending_exception) {
    napi_value exception;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
  }
  napi_close_handle_scope(env, scope);
  return status == napi_ok || status == napi_pending_exception;
}

static void stop_polling(Device *device) {
  device->polling = false;
  uv_poll_stop(&device->poll);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  Device *device = poll->data;
  (void)events;
  device->references++; /* the callback may close the device */
  for (int round = 0; round < ROUNDS_MAX && device->polling; round++) {
    int failure = 0;
    uint64_t spin_until_ns = round > 0 && device->spin_ns_max ? uv_hrtime() + device->spin_ns_max : 0;
    uint32_t filled = fill_slots(device, spin_until_ns, &failure);
    if (failure) stop_polling(device);
    if ((filled || failure) && !deliver(device, filled, failure) && device->polling) stop_polling(device);
    if (!device->polling) break;
    if (!has_free_slot(device)) {
      device->control[0] = 1;
      stop_polling(device);
      break;
    }
    if (filled == 0 || (filled < device->slot_count && !device->spin_ns_max)) break;
  }
  /* libuv stops a handle that reports an error (POLLERR); the device says by read what it was, or nothing was wrong. */
  if (status < 0 && device->polling) uv_poll_start(&device->poll, UV_READABLE, on_readable);
  release_device(device);
}

static int start_polling(Device *device) {
  int status = uv_poll_start(&device->poll, UV_READABLE, on_readable);
  device->polling = status == 0;
  return status;
}

bool memory_of(napi_env env, napi_value value, void **data, size_t *length, napi_typedarray_type expected) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == expected) return true;
  throw_bug(env, "not a typed array of the expected kind");
  return false;
}

/* startReading(device, slots: Uint8Array, control: Int32Array, slotCount, spinUs, callback) -> 0 | -errno */
static napi_value start_reading(napi_env env, napi_callback_info info) {
  size_t count = 6, slots_length, control_length;
  napi_value arguments[6];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  if (!device) return NULL;
  if (device->poll_open || device->descriptor < 0) return number(env, -EBADF);
  if (!memory_of(env, arguments[1], (void **)&device->slots, &slots_length, napi_uint8_array)) return NULL;
  if (!memory_of(env, arguments[2], (void **)&device->control, &control_length, napi_int32_array)) return NULL;
  device->slot_count = (uint32_t)integer_of(env, arguments[3]);
  if (!device->slot_count || control_length < 1 + 3 * (size_t)device->slot_count) return number(env, -EINVAL);
  device->slot_bytes = slots_length / device->slot_count;
  device->spin_ns_max = (uint64_t)integer_of(env, arguments[4]) * 1000;

  uv_loop_t *loop;
  napi_get_uv_event_loop(env, &loop);
  int status = uv_poll_init(loop, &device->poll, device->descriptor);
  if (status < 0) return number(env, status);
  device->poll.data = device;
  device->poll_open = true;
  device->references++;
  napi_create_reference(env, arguments[1], 1, &device->slots_reference);
  napi_create_reference(env, arguments[2], 1, &device->control_reference);
  napi_create_reference(env, arguments[5], 1, &device->callback);
  napi_add_async_cleanup_hook(env, on_environment_end, device, &device->cleanup);
  return number(env, start_polling(device));
}

/* resumeReading(device): a slot is free again */
static napi_value resume_reading(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  if (!device) return NULL;
  if (!device->poll_open || device->polling) return number(env, 0);
  device->control[0] = 0;
  return number(env, start_polling(device));
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

/* reply(device, head, ...pieces) -> 0 | -errno. One writev; the kernel takes all of it or none. */
static napi_value reply(napi_env env, napi_callback_info info) {
  napi_value few[3], many[PIECES_MAX + 2];
  napi_value *arguments = few;
  size_t count = 3;
  napi_get_cb_info(env, info, &count, few, NULL, NULL);
  if (count > 3) {
    if (count > PIECES_MAX + 2) return number(env, -EMSGSIZE);
    arguments = many;
    napi_get_cb_info(env, info, &count, many, NULL, NULL);
  }
  Device *device = device_of(env, arguments[0]);
  if (!device) return NULL;
  struct iovec pieces[PIECES_MAX + 1];
  for (size_t index = 1; index < count; index++) {
    struct iovec *piece = &pieces[index - 1];
    if (!memory_of(env, arguments[index], &piece->iov_base, &piece->iov_len, napi_uint8_array)) return NULL;
  }
  ssize_t written;
  do {
    written = writev(device->descriptor, pieces, (int)count - 1);
  } while (written < 0 && errno == EINTR);
  return number(env, written < 0 ? -errno : 0);
}

/* ---- Module ----------------------------------------------------------------------------------------------------- */

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback call;
  } calls[] = {
      {"openDevice", open_device},
      {"cloneDevice", clone_device},
      {"descriptorOf", descriptor_of},
      {"openSocketPair", open_socket_pair},
      {"receiveDevice", receive_device},
      {"closeDescriptor", close_plain_descriptor},
      {"closeDevice", close_device_call},
      {"startReading", start_reading},
      {"resumeReading", resume_reading},
      {"reply", reply},
      {"mount", mount_call},
      {"unmount", unmount_call},
      {"notify", notify_call},
  };
  for (size_t index = 0; index < sizeof calls / sizeof *calls; index++) {
    napi_value function;
    napi_create_function(env, calls[index].name, NAPI_AUTO_LENGTH, calls[index].call, NULL, &function);
    napi_set_named_property(env, exports, calls[index].name, function);
  }
  return exports;
}
