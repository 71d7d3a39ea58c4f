/*
 * A channel: an endpoint with an address vector and a completion queue of its own, so that closing it ends everything that its
 * operations can still touch and disturbs no other.
 *
 * A write counts as ended when its bytes are in the memory there. The tcp provider is asked for that (FI_DELIVERY_COMPLETE) and
 * has the other end confirm. With verbs, ofi_rxm takes the same flag and the adapter confirms only that *it* has the bytes; so
 * a few of them are read back behind the write, which an adapter answers after what came before is in memory.
 *
 * After a failure a channel takes nothing more: with some providers the path is of no use then, ofi_rxm would connect anew to
 * whoever has that address now, and libfabric 1.17 is not to be trusted with it (repair.c).
 *
 * One address is put into the vector and stays as long as the endpoint: reading from an address that was removed ends the process.
 */
#define _GNU_SOURCE
#include "fabric.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CHUNK_OPERATIONS 64

/* ---- Operations -------------------------------------------------------------------------------------------------- */

static bool add_chunk(Device *device) {
  Operation **chunks = realloc(device->chunks, (device->chunk_count + 1) * sizeof *chunks);
  if (!chunks) return false;
  device->chunks = chunks;
  Operation *chunk = calloc(CHUNK_OPERATIONS, sizeof *chunk);
  if (!chunk) return false;
  for (uint32_t index = CHUNK_OPERATIONS; index-- > 0;) {
    chunk[index].id = device->chunk_count * CHUNK_OPERATIONS + index;
    chunk[index].next = device->free_operations;
    device->free_operations = &chunk[index];
  }
  chunks[device->chunk_count++] = chunk;
  return true;
}

static Operation *take_operation(Device *device) {
  if (!device->free_operations && !add_chunk(device)) return NULL;
  Operation *operation = device->free_operations;
  device->free_operations = operation->next;
  return operation;
}

Operation *next_under_way(const Channel *channel, uint32_t id) {
  const Device *device = channel->device;
  if (channel->operations == 0) return NULL;
  for (; id < device->chunk_count * CHUNK_OPERATIONS; id++) {
    Operation *operation = &device->chunks[id / CHUNK_OPERATIONS][id % CHUNK_OPERATIONS];
    if (operation->is_under_way && operation->channel == channel) return operation;
  }
  return NULL;
}

void end_operation(Operation *operation) {
  Device *device = operation->channel->device;
  operation->is_under_way = false;
  operation->channel->operations--;
  end_operation_on(operation->region);
  remove_busy(device);
}

static void give_back(Operation *operation) {
  Device *device = operation->channel->device;
  operation->next = device->free_operations;
  device->free_operations = operation;
}

void recycle_operations(Device *device) {
  while (device->told_operations) {
    Operation *operation = device->told_operations;
    device->told_operations = operation->next;
    operation->next = device->free_operations;
    device->free_operations = operation;
  }
}

void free_operations(Device *device) {
  for (uint32_t index = 0; index < device->chunk_count; index++) free(device->chunks[index]);
  free(device->chunks);
  device->chunks = NULL;
  device->chunk_count = 0;
  device->free_operations = device->told_operations = NULL;
}

/* A write that its provider confirms by itself. */
static ssize_t post_confirmed_write(Channel *channel, Operation *operation, const struct iovec *from, uint64_t address) {
  void *description = fi_mr_desc(operation->region->registration);
  struct fi_rma_iov to = {.addr = address, .len = from->iov_len, .key = operation->remote_key};
  struct fi_msg_rma message = {
      .msg_iov = from,
      .desc = &description,
      .iov_count = 1,
      .addr = channel->peer,
      .rma_iov = &to,
      .rma_iov_count = 1,
      .context = &operation->provider,
  };
  return fi_writemsg(channel->endpoint, &message, FI_COMPLETION | FI_DELIVERY_COMPLETE);
}

static ssize_t post(Channel *channel, Operation *operation, bool is_write, struct iovec *here, uint64_t address) {
  if (is_write && !channel->device->reads_behind) return post_confirmed_write(channel, operation, here, address);
  void *description = fi_mr_desc(operation->region->registration);
  if (is_write)
    return fi_write(channel->endpoint, here->iov_base, here->iov_len, description, channel->peer, address,
                    operation->remote_key, &operation->provider);
  return fi_read(channel->endpoint, here->iov_base, here->iov_len, description, channel->peer, address,
                 operation->remote_key, &operation->provider);
}

ssize_t post_confirmation(Operation *operation) {
  Channel *channel = operation->channel;
  Device *device = channel->device;
  return fi_read(channel->endpoint, device->scratch, operation->confirming_bytes, fi_mr_desc(device->scratch_registration),
                 channel->peer, operation->remote_end - operation->confirming_bytes, operation->remote_key,
                 &operation->provider);
}

static int64_t start(Channel *channel, Operation *operation, bool is_write, struct iovec *here, uint64_t address) {
  Device *device = channel->device;
  operation->ending = (Ending){.kind = OPERATION_ENDED};
  operation->channel = channel;
  operation->is_under_way = true;
  operation->needs_confirmation = is_write && device->reads_behind;
  operation->remote_end = address + here->iov_len;
  operation->confirming_bytes = here->iov_len < CONFIRMING_BYTES ? (uint32_t)here->iov_len : CONFIRMING_BYTES;
  operation->failure = operation->provider_failure = 0;
  channel->operations++;
  operation->region->operations++;
  operation->region->references++;
  add_busy(device);
  atomic_fetch_add(&device->posted, 1);
  ssize_t failure = post(channel, operation, is_write, here, address);
  if (!failure) return operation->id;
  atomic_fetch_sub(&device->posted, 1);
  end_operation(operation);
  give_back(operation);
  return failure;
}

/*
 * start(channel, isWrite, region, offset, bytes, remoteAddress: bigint, remoteKey: bigint) -> id | -errno; -EAGAIN: later.
 * What the other end's memory is, is the other end's word, and checked there.
 */
napi_value start_call(napi_env env, napi_callback_info info) {
  size_t count = 7;
  napi_value arguments[7];
  bool is_write = false, is_address = false, is_key = false;
  int64_t offset = -1, bytes = -1;
  uint64_t address = 0, key = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Channel *channel = channel_of(env, arguments[0]);
  Region *region = channel ? region_of(env, arguments[2]) : NULL;
  if (!region) return NULL;
  napi_get_value_bool(env, arguments[1], &is_write);
  napi_get_value_int64(env, arguments[3], &offset);
  napi_get_value_int64(env, arguments[4], &bytes);
  napi_get_value_bigint_uint64(env, arguments[5], &address, &is_address);
  napi_get_value_bigint_uint64(env, arguments[6], &key, &is_key);
  Device *device = channel->device;
  if (channel->is_closing || device->is_stopping) return number(env, -FI_ECANCELED);
  if (!channel->is_connected) return number(env, -FI_ENOTCONN);
  if (!region->registration || region->device != device) return number(env, -FI_EINVAL);
  if (offset < 0 || bytes < 1 || (uint64_t)bytes > device->operation_bytes_max) return number(env, -FI_EINVAL);
  if ((uint64_t)offset > region->bytes || (uint64_t)bytes > region->bytes - (uint64_t)offset)
    return number(env, -FI_EINVAL);
  if (!is_address || !is_key || address > UINT64_MAX - (uint64_t)bytes) return number(env, -FI_EACCES);
  if (atomic_load(&channel->is_broken) || channel->operations >= CHANNEL_OPERATIONS_MAX) return number(env, -FI_EAGAIN);
  Operation *operation = take_operation(device);
  if (!operation) return number(env, -FI_ENOMEM);
  operation->region = region;
  operation->remote_key = key;
  struct iovec here = {region->memory + offset, (size_t)bytes};
  return number(env, start(channel, operation, is_write, &here, address));
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

/* 0 or libfabric's error. */
static int open_objects(Channel *channel) {
  Device *device = channel->device;
  struct fi_av_attr addresses = {.type = FI_AV_TABLE, .count = 1};
  struct fi_cq_attr completions = {
      .format = FI_CQ_FORMAT_CONTEXT, .size = CHANNEL_OPERATIONS_MAX, .wait_obj = FI_WAIT_FD};
  int failure = fi_av_open(device->domain, &addresses, &channel->addresses, NULL);
  if (failure) return -failure;
  failure = fi_cq_open(device->domain, &completions, &channel->completions, NULL);
  if (failure == -FI_ENOSYS) {
    completions.wait_obj = FI_WAIT_NONE;
    failure = fi_cq_open(device->domain, &completions, &channel->completions, NULL);
  }
  if (failure) return -failure;
  if (completions.wait_obj == FI_WAIT_FD)
    failure = fi_control(&channel->completions->fid, FI_GETWAIT, &channel->wait_descriptor);
  if (!failure) failure = fi_endpoint(device->domain, device->info, &channel->endpoint, NULL);
  if (!failure) failure = fi_ep_bind(channel->endpoint, &channel->addresses->fid, 0);
  if (!failure) failure = fi_ep_bind(channel->endpoint, &channel->completions->fid, FI_TRANSMIT | FI_RECV);
  if (!failure) failure = fi_enable(channel->endpoint);
  return -failure;
}

void close_endpoint(Channel *channel) {
  if (channel->endpoint) fi_close(&channel->endpoint->fid);
  if (channel->completions) fi_close(&channel->completions->fid);
  if (channel->addresses) fi_close(&channel->addresses->fid);
  channel->endpoint = NULL, channel->completions = NULL, channel->addresses = NULL;
}

static void release_channel(Channel *channel) {
  if (--channel->references > 0) return;
  channel->magic = 0;
  release_device(channel->device);
  free(channel);
}

static void close_channel(Channel *channel) {
  if (channel->is_closing || channel->device->is_stopping) return;
  channel->is_closing = true;
  add_busy(channel->device);
  atomic_store(&channel->is_ordered_closed, true);
  order(channel->device);
}

static void on_handle_collected(napi_env env, void *data, void *hint) {
  Channel *channel = data;
  (void)env, (void)hint;
  close_channel(channel);
  release_channel(channel);
}

static void hand_over(Channel *channel) {
  Device *device = channel->device;
  channel->next = device->channels;
  if (device->channels) device->channels->previous = channel;
  device->channels = channel;
  pthread_mutex_lock(&device->mutex);
  channel->next_order = device->opened;
  device->opened = channel;
  pthread_mutex_unlock(&device->mutex);
  order(device);
}

/* openChannel(device) -> channel | -errno */
napi_value open_channel_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1], handle;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  if (!device) return NULL;
  if (device->is_stopping || !device->domain) return number(env, -FI_ENODEV);
  Channel *channel = calloc(1, sizeof *channel);
  if (!channel) return number(env, -FI_ENOMEM);
  channel->magic = CHANNEL_MAGIC;
  channel->references = 2;
  channel->device = device;
  channel->ending.kind = CHANNEL_CLOSED;
  channel->serial = device->next_serial++;
  channel->id = (int32_t)(channel->serial & INT32_MAX);
  channel->wait_descriptor = -1;
  int failure = open_objects(channel);
  if (!failure && napi_create_external(env, channel, on_handle_collected, NULL, &handle) != napi_ok) failure = FI_ENOMEM;
  if (failure) {
    close_endpoint(channel);
    free(channel);
    return number(env, -failure);
  }
  device->references++;
  hand_over(channel);
  return handle;
}

/* describeChannel(channel) -> [id, name: ArrayBuffer]; only while it is open */
napi_value describe_channel_call(napi_env env, napi_callback_info info) {
  size_t count = 1, length = NAME_BYTES_MAX;
  napi_value arguments[1], result, name;
  uint8_t bytes[NAME_BYTES_MAX];
  void *copy;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Channel *channel = channel_of(env, arguments[0]);
  if (!channel || channel->is_closing || channel->device->is_stopping) return NULL;
  if (fi_getname(&channel->endpoint->fid, bytes, &length) || length > sizeof bytes) length = 0;
  napi_create_arraybuffer(env, length, &copy, &name);
  if (length) memcpy(copy, bytes, length);
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, number(env, channel->id));
  napi_set_element(env, result, 1, name);
  return result;
}

/* Names are socket addresses of one family. */
int names_of(Channel *channel, const uint8_t *other, size_t length, Names *names) {
  size_t own_length = sizeof names->own;
  if (channel->is_closing || channel->device->is_stopping) return FI_ECANCELED;
  if (fi_getname(&channel->endpoint->fid, names->own, &own_length) || own_length > sizeof names->own) return FI_EOTHER;
  if (length != own_length) return FI_EADDRNOTAVAIL;
  memcpy(names->other, other, length);
  bool is_alike = ((struct sockaddr *)names->own)->sa_family == ((struct sockaddr *)names->other)->sa_family;
  return is_alike ? 0 : FI_EADDRNOTAVAIL;
}

/* connectChannel(channel, name: Uint8Array) -> 0 | -errno */
napi_value connect_channel_call(napi_env env, napi_callback_info info) {
  size_t count = 2, length;
  napi_value arguments[2];
  uint8_t *name;
  Names names;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Channel *channel = channel_of(env, arguments[0]);
  if (!channel || !bytes_of(env, arguments[1], &name, &length)) return NULL;
  if (channel->is_connected) return number(env, -FI_EISCONN);
  int failure = names_of(channel, name, length, &names);
  if (failure) return number(env, -failure);
  int inserted = fi_av_insert(channel->addresses, names.other, 1, &channel->peer, 0, NULL);
  if (inserted != 1) return number(env, inserted < 0 ? inserted : -FI_EADDRNOTAVAIL);
  channel->is_connected = true;
  return number(env, 0);
}

/* hurry(channel, isHeldBack: boolean) */
napi_value hurry_call(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  bool is_held_back = false;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Channel *channel = channel_of(env, arguments[0]);
  if (!channel) return NULL;
  napi_get_value_bool(env, arguments[1], &is_held_back);
  if (channel->is_closing || channel->device->is_stopping) return undefined(env);
  if (!atomic_exchange(&channel->is_hurried, is_held_back) && is_held_back) wake(channel->device);
  return undefined(env);
}

/* ---- Closing ----------------------------------------------------------------------------------------------------- */

/* closeChannel(channel): it is closed when the batch says so. May be called again. */
napi_value close_channel_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Channel *channel = channel_of(env, arguments[0]);
  if (!channel) return NULL;
  close_channel(channel);
  return undefined(env);
}

void settle_channel(Channel *channel) {
  Device *device = channel->device;
  Operation *operation;
  for (uint32_t id = 0; (operation = next_under_way(channel, id)); id = operation->id + 1) {
    atomic_fetch_sub(&device->posted, 1);
    end_operation(operation);
    give_back(operation);
  }
  if (channel->previous)
    channel->previous->next = channel->next;
  else
    device->channels = channel->next;
  if (channel->next) channel->next->previous = channel->previous;
  if (channel->is_closing) remove_busy(device);
  /* From here on every call sees it as closed. */
  channel->is_closing = true;
  let_lingering_go(device);
  release_channel(channel);
}
