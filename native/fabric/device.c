/* A device: libfabric's fabric and domain for one address of this machine, and the thread that serves its channels. */
#define _GNU_SOURCE
#include "fabric.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * The providers would take more. What Soft-RoCE takes holds for all, so that one operation does not keep a connection for long, and
 * what is tried with one provider is tried for the others.
 */
#define OPERATION_BYTES_MAX (8u << 20)
#define BATCH_LENGTH_MIN 48
/* Enough for a line of a cache, whatever the alignment. */
#define SCRATCH_BYTES 4096
#define TEXT_BYTES_MAX 256

void release_device(Device *device) {
  if (--device->references > 0) return;
  device->magic = 0;
  pthread_mutex_destroy(&device->mutex);
  free(device);
}

void add_busy(Device *device) {
  if (device->busy++ == 0) uv_ref((uv_handle_t *)&device->async);
}

void remove_busy(Device *device) {
  if (--device->busy == 0 && device->is_async_open) uv_unref((uv_handle_t *)&device->async);
}

/* ---- Ending ------------------------------------------------------------------------------------------------------ */

static void close_object(struct fid *object) {
  if (object) fi_close(object);
}

static void close_objects(Device *device) {
  const char *reason;
  const Library *library = load_library(&reason);
  if (device->scratch_registration) close_object(&device->scratch_registration->fid);
  if (device->domain) close_object(&device->domain->fid);
  if (device->fabric) close_object(&device->fabric->fid);
  if (device->info) library->freeinfo(device->info);
  if (device->wake_descriptor >= 0) close(device->wake_descriptor);
  if (device->poll_descriptor >= 0) close(device->poll_descriptor);
  free(device->scratch);
  device->scratch_registration = NULL, device->domain = NULL, device->fabric = NULL, device->info = NULL;
  device->wake_descriptor = device->poll_descriptor = -1;
  device->scratch = NULL;
}

static void drop_reference(napi_env env, napi_ref *reference) {
  if (*reference) napi_delete_reference(env, *reference);
  *reference = NULL;
}

static void on_async_closed(uv_handle_t *handle) {
  Device *device = handle->data;
  if (device->cleanup) napi_remove_async_cleanup_hook(device->cleanup);
  device->cleanup = NULL;
  release_device(device);
}

static void join_thread(Device *device) {
  if (!device->is_thread_running) return;
  pthread_join(device->thread, NULL);
  device->is_thread_running = false;
  remove_running(device);
}

void finish_device(Device *device) {
  join_thread(device);
  while (device->channels) settle_channel(device->channels);
  close_regions(device);
  close_objects(device);
  free_operations(device);
  drop_reference(device->env, &device->on_batch);
  drop_reference(device->env, &device->batch_reference);
  if (!device->is_async_open) return;
  device->is_async_open = false;
  uv_close((uv_handle_t *)&device->async, on_async_closed);
}

/* The thread closes the channels and reports that it has stopped; delivery.c goes on from there. */
static void stop_device(Device *device) {
  if (device->is_stopping) return;
  device->is_stopping = true;
  add_busy(device);
  atomic_store(&device->must_stop, true);
  order(device);
}

static void on_environment_end(napi_async_cleanup_hook_handle handle, void *data) {
  Device *device = data;
  (void)handle;
  if (!device->is_async_open) return;
  stop_device(device);
  finish_device(device);
}

static void on_handle_collected(napi_env env, void *data, void *hint) {
  Device *device = data;
  (void)env, (void)hint;
  if (device->is_async_open) stop_device(device);
  release_device(device);
}

/* closeDevice(device): it has stopped when the batch says so. May be called again. */
napi_value close_device_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  if (!device) return NULL;
  if (device->is_async_open) stop_device(device);
  return undefined(env);
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

/* The same for every provider; see FI_MR_* and the modes in fi_domain(3) and fi_getinfo(3). */
static struct fi_info *hints_for(const Library *library, const char *provider) {
  struct fi_info *hints = library->dupinfo(NULL);
  if (!hints) return NULL;
  hints->caps = FI_RMA | FI_MSG;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_VIRT_ADDR;
  hints->domain_attr->threading = FI_THREAD_SAFE;
  hints->domain_attr->av_type = FI_AV_TABLE;
  hints->fabric_attr->prov_name = strdup(provider);
  return hints;
}

/* 0, or libfabric's error and the step that it came from. */
static int open_objects(Device *device, const char *provider, const char *address, const char **step) {
  const char *reason;
  const Library *library = load_library(&reason);
  struct fi_info *hints = hints_for(library, provider);
  if (!hints) return FI_ENOMEM;
  *step = "looking for a device";
  int failure = library->getinfo(FI_VERSION(1, 17), address, NULL, FI_SOURCE, hints, &device->info);
  library->freeinfo(hints);
  if (failure) return -failure;
  *step = "fi_fabric";
  if ((failure = library->fabric(device->info->fabric_attr, &device->fabric, NULL))) return -failure;
  *step = "fi_domain";
  if ((failure = fi_domain(device->fabric, device->info, &device->domain, NULL))) return -failure;
  *step = "fi_mr_reg";
  device->scratch = calloc(1, SCRATCH_BYTES);
  if (!device->scratch) return FI_ENOMEM;
  failure = fi_mr_reg(device->domain, device->scratch, SCRATCH_BYTES, FI_READ | FI_WRITE, 0, 0, 0,
                      &device->scratch_registration, NULL);
  size_t most = device->info->ep_attr->max_msg_size;
  device->operation_bytes_max = most < OPERATION_BYTES_MAX ? most : OPERATION_BYTES_MAX;
  return -failure;
}

static bool take_batch(napi_env env, Device *device, napi_value batch, napi_value on_batch) {
  napi_typedarray_type type;
  size_t length;
  void *data;
  if (napi_get_typedarray_info(env, batch, &type, &length, &data, NULL, NULL) != napi_ok || type != napi_int32_array ||
      length < BATCH_LENGTH_MIN) {
    throw_bug(env, "a batch is an Int32Array");
    return false;
  }
  device->batch = data;
  device->batch_length = length;
  napi_create_reference(env, batch, 1, &device->batch_reference);
  napi_create_reference(env, on_batch, 1, &device->on_batch);
  return true;
}

static Device *new_device(napi_env env) {
  Device *device = calloc(1, sizeof *device);
  if (!device) return NULL;
  device->magic = DEVICE_MAGIC;
  device->references = 1;
  device->env = env;
  device->stopped.kind = DEVICE_STOPPED;
  device->wake_descriptor = device->poll_descriptor = -1;
  pthread_mutex_init(&device->mutex, NULL);
  return device;
}

/* What was opened of a device that cannot be used. */
static void discard_device(Device *device) {
  close_objects(device);
  drop_reference(device->env, &device->on_batch);
  drop_reference(device->env, &device->batch_reference);
  release_device(device);
}

static napi_value device_handle(napi_env env, Device *device) {
  uv_loop_t *loop;
  napi_value handle;
  napi_get_uv_event_loop(env, &loop);
  if (napi_create_external(env, device, on_handle_collected, NULL, &handle) != napi_ok) {
    discard_device(device);
    return text(env, "no memory");
  }
  device->references++;
  if (uv_async_init(loop, &device->async, on_endings)) {
    discard_device(device);
    return text(env, "no memory");
  }
  device->async.data = device;
  device->is_async_open = true;
  uv_unref((uv_handle_t *)&device->async);
  napi_add_async_cleanup_hook(env, on_environment_end, device, &device->cleanup);
  int failure = start_progress(device);
  if (!failure) {
    device->is_thread_running = true;
    add_running(device);
    return handle;
  }
  device->is_stopping = true;
  finish_device(device);
  return text(env, strerror(failure));
}

/*
 * openDevice(provider, address, readsBehind: boolean, batch: Int32Array, onBatch: (count) => void) -> device | why not.
 * `readsBehind`: what a write's completion says is not enough (channel.c). The batch has three numbers an ending: an operation's id,
 * libfabric's error, the provider's own; or -2 and the id of a channel that is closed; or -1: the device has stopped.
 */
napi_value open_device_call(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value arguments[5];
  char provider[TEXT_BYTES_MAX], address[TEXT_BYTES_MAX], message[4 * TEXT_BYTES_MAX];
  const char *reason, *step = "";
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_string_utf8(env, arguments[0], provider, sizeof provider, NULL) != napi_ok ||
      napi_get_value_string_utf8(env, arguments[1], address, sizeof address, NULL) != napi_ok) {
    throw_bug(env, "not a text");
    return NULL;
  }
  const Library *library = load_library(&reason);
  if (!library) return text(env, reason);
  Device *device = new_device(env);
  if (!device) return text(env, "no memory");
  napi_get_value_bool(env, arguments[2], &device->reads_behind);
  if (!take_batch(env, device, arguments[3], arguments[4])) {
    discard_device(device);
    return NULL;
  }
  int failure = open_objects(device, provider, address, &step);
  if (!failure) return device_handle(env, device);
  discard_device(device);
  if (failure == FI_ENODATA)
    snprintf(message, sizeof message, "libfabric finds no %s device with the address %s", provider, address);
  else
    snprintf(message, sizeof message, "%s for %s at %s: %s", step, provider, address, library->strerror(failure));
  return text(env, message);
}

/* describeDevice(device) -> [domain, libfabric's version, bytes an operation moves at most] */
napi_value describe_device_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1], result;
  char version[32];
  const char *reason;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  if (!device || !device->info) return NULL;
  uint32_t number_of_version = load_library(&reason)->version();
  snprintf(version, sizeof version, "%u.%u", FI_MAJOR(number_of_version), FI_MINOR(number_of_version));
  napi_create_array_with_length(env, 3, &result);
  napi_set_element(env, result, 0, text(env, device->info->domain_attr->name));
  napi_set_element(env, result, 1, text(env, version));
  napi_set_element(env, result, 2, number(env, (int64_t)device->operation_bytes_max));
  return result;
}
