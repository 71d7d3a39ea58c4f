/*
 * What the progress thread has seen, handed to JavaScript by the batch: one call for all that ended since the last. The order is
 * kept, so what ended before its channel was closed is not cut off.
 */
#include "fabric.h"

#define NUMBERS_EACH 3
#define CHANNEL_MARK (-2)
#define DEVICE_MARK (-1)

void report(Device *device, Ending *first, Ending *last) {
  pthread_mutex_lock(&device->mutex);
  bool was_empty = !device->endings_first;
  if (was_empty)
    device->endings_first = first;
  else
    device->endings_last->next = first;
  device->endings_last = last;
  pthread_mutex_unlock(&device->mutex);
  if (was_empty) uv_async_send(&device->async);
}

static Ending *take_endings(Device *device) {
  pthread_mutex_lock(&device->mutex);
  Ending *first = device->endings_first;
  device->endings_first = device->endings_last = NULL;
  pthread_mutex_unlock(&device->mutex);
  return first;
}

/* One call into JavaScript. What it throws goes where exceptions of callbacks go. */
static void deliver(Device *device, uint32_t count) {
  napi_env env = device->env;
  napi_handle_scope scope;
  if (count == 0 || !device->on_batch || napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value callback, global, result, argument;
  napi_get_reference_value(env, device->on_batch, &callback);
  napi_get_global(env, &global);
  napi_create_uint32(env, count, &argument);
  if (napi_make_callback(env, NULL, global, callback, 1, &argument, &result) == napi_pending_exception) {
    napi_value exception;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
  }
  napi_close_handle_scope(env, scope);
  /* From here on their ids may be given to others. */
  recycle_operations(device);
}

typedef struct {
  Device *device;
  uint32_t count;
} Batch;

static void add(Batch *batch, int32_t id, int32_t failure, int32_t detail) {
  Device *device = batch->device;
  if (NUMBERS_EACH * (size_t)(batch->count + 1) > device->batch_length) {
    deliver(device, batch->count);
    batch->count = 0;
  }
  int32_t *at = device->batch + NUMBERS_EACH * batch->count++;
  at[0] = id, at[1] = failure, at[2] = detail;
}

static void add_operation(Batch *batch, Operation *operation, int failure) {
  add(batch, (int32_t)operation->id, failure, operation->provider_failure);
  end_operation(operation);
  operation->next = batch->device->told_operations;
  batch->device->told_operations = operation;
}

static void add_channel(Batch *batch, Channel *channel) {
  int32_t id = channel->id;
  Operation *operation;
  for (uint32_t next = 0; (operation = next_under_way(channel, next)); next = operation->id + 1) {
    atomic_fetch_sub(&batch->device->posted, 1);
    add_operation(batch, operation, CUT_OFF);
  }
  settle_channel(channel);
  add(batch, CHANNEL_MARK, id, 0);
}

#define OF(type, ending) ((type *)((char *)(ending) - offsetof(type, ending)))

void on_endings(uv_async_t *async) {
  Device *device = async->data;
  Batch batch = {device, 0};
  bool has_stopped = false;
  device->references++; /* JavaScript may let go of the handle meanwhile */
  for (Ending *ending = take_endings(device), *next; ending; ending = next) {
    /* Read first: what is settled may be freed. */
    next = ending->next;
    if (ending->kind == OPERATION_ENDED)
      add_operation(&batch, OF(Operation, ending), OF(Operation, ending)->failure);
    else if (ending->kind == CHANNEL_CLOSED)
      add_channel(&batch, OF(Channel, ending));
    else
      has_stopped = true;
  }
  if (has_stopped) add(&batch, DEVICE_MARK, 0, 0);
  deliver(device, batch.count);
  if (has_stopped) {
    remove_busy(device);
    finish_device(device);
  }
  release_device(device);
}
