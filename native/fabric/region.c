/*
 * Registered memory. JavaScript keeps no address and gives none: a region is a handle, and what lies in it is said by offset and
 * checked here.
 *
 * A reference keeps the memory alive as long as it may be touched. That is longer than the registration where the provider is
 * software: what a peer had asked for when a region was closed may still be sent from it, or arrive in it, until the channel that
 * it came by is closed; and so may what was under way of an operation from here that failed. So the memory of a closed region
 * lingers until those channels are closed that may touch it. They must not be more than that: some are open for as long as the
 * process, and a region that is opened and closed beside them would be kept with them.
 */
#define _GNU_SOURCE
#include "fabric.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

/* A key that is taken already is drawn again. */
#define KEY_DRAWS_MAX 4

static const uint64_t ACCESS[] = {
    FI_READ | FI_WRITE,
    FI_READ | FI_WRITE | FI_REMOTE_READ,
    FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE,
};

static void link_region(Region **list, Region *region) {
  region->previous = NULL;
  region->next = *list;
  if (*list) (*list)->previous = region;
  *list = region;
}

static void unlink_region(Region **list, Region *region) {
  if (region->previous)
    region->previous->next = region->next;
  else
    *list = region->next;
  if (region->next) region->next->previous = region->previous;
  region->next = region->previous = NULL;
}

static void release_region(Region *region) {
  if (--region->references > 0) return;
  region->magic = 0;
  release_device(region->device);
  free(region);
}

static void let_memory_go(Region *region) {
  napi_delete_reference(region->device->env, region->memory_reference);
  region->memory_reference = NULL;
  region->memory = NULL;
  release_region(region);
}

static bool may_touch(const Channel *channel, const Region *region) {
  if (channel->serial >= region->lingers_for) return false;
  if (atomic_load(&channel->is_broken)) return true;
  return region->is_lent && (region->lent_through == ANY_CHANNEL || region->lent_through == channel->serial);
}

static bool may_be_touched(const Device *device, const Region *region) {
  for (const Channel *channel = device->channels; channel; channel = channel->next)
    if (may_touch(channel, region)) return true;
  return false;
}

void let_lingering_go(Device *device) {
  for (Region *region = device->lingering, *next; region; region = next) {
    next = region->next;
    if (may_be_touched(device, region)) continue;
    unlink_region(&device->lingering, region);
    let_memory_go(region);
  }
}

static void close_region(Region *region) {
  if (!region->registration) return;
  Device *device = region->device;
  bool is_closed = !fi_close(&region->registration->fid);
  region->registration = NULL;
  unlink_region(&device->regions, region);
  /* An adapter that would not let go of it may still reach it: its memory, and what refers to it, stays for good. */
  if (!is_closed) return;
  region->lingers_for = device->next_serial;
  link_region(&device->lingering, region);
  let_lingering_go(device);
}

void close_regions(Device *device) {
  while (device->regions) close_region(device->regions);
  let_lingering_go(device);
}

void end_operation_on(Region *region) {
  if (--region->operations == 0 && region->is_abandoned) close_region(region);
  release_region(region);
}

static void on_handle_collected(napi_env env, void *data, void *hint) {
  Region *region = data;
  (void)env, (void)hint;
  region->is_abandoned = true;
  if (region->operations == 0) close_region(region);
  release_region(region);
}

/* 0 or libfabric's error. Where we choose the key it is drawn, so that nobody guesses it. */
static int register_memory(Region *region, uint64_t access) {
  struct fi_domain_attr *domain = region->device->info->domain_attr;
  int failure = 0;
  for (int draw = 0; draw < KEY_DRAWS_MAX; draw++) {
    uint64_t key = 0;
    if (!(domain->mr_mode & FI_MR_PROV_KEY)) {
      if (getrandom(&key, sizeof key, 0) != sizeof key) return errno;
      if (domain->mr_key_size < sizeof key) key &= (UINT64_C(1) << (8 * domain->mr_key_size)) - 1;
    }
    failure = fi_mr_reg(region->device->domain, region->memory, region->bytes, access, 0, key, 0, &region->registration,
                        NULL);
    if (failure != -FI_ENOKEY) break;
  }
  return -failure;
}

/*
 * registerRegion(device, memory: Uint8Array, access: 0 none | 1 read | 2 read and write, channel | undefined) -> region | -errno.
 * `channel`: nobody is told of the region but who is at its other end.
 */
napi_value register_region_call(napi_env env, napi_callback_info info) {
  size_t count = 4, bytes;
  napi_value arguments[4], handle;
  napi_valuetype type;
  uint8_t *memory;
  uint32_t access = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Device *device = device_of(env, arguments[0]);
  if (!device || !bytes_of(env, arguments[1], &memory, &bytes)) return NULL;
  napi_get_value_uint32(env, arguments[2], &access);
  napi_typeof(env, arguments[3], &type);
  Channel *through = type == napi_undefined ? NULL : channel_of(env, arguments[3]);
  if (type != napi_undefined && !through) return NULL;
  if (device->is_stopping || !device->domain) return number(env, -FI_ENODEV);
  if (through && through->device != device) return number(env, -FI_EINVAL);
  if (bytes == 0 || access >= sizeof ACCESS / sizeof *ACCESS) return number(env, -FI_EINVAL);
  Region *region = calloc(1, sizeof *region);
  if (!region) return number(env, -FI_ENOMEM);
  *region = (Region){.magic = REGION_MAGIC, .references = 2, .device = device, .memory = memory, .bytes = bytes};
  region->is_lent = access > 0;
  region->lent_through = through ? through->serial : ANY_CHANNEL;
  int failure = register_memory(region, ACCESS[access]);
  if (failure) {
    free(region);
    return number(env, -failure);
  }
  if (napi_create_external(env, region, on_handle_collected, NULL, &handle) != napi_ok) {
    fi_close(&region->registration->fid);
    free(region);
    return number(env, -FI_ENOMEM);
  }
  napi_create_reference(env, arguments[1], 1, &region->memory_reference);
  device->references++;
  link_region(&device->regions, region);
  return handle;
}

/* describeRegion(region) -> [key, address]; only while it is open */
napi_value describe_region_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1], result, key, address;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Region *region = region_of(env, arguments[0]);
  if (!region || !region->registration) return NULL;
  bool is_virtual = region->device->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR;
  napi_create_bigint_uint64(env, fi_mr_key(region->registration), &key);
  napi_create_bigint_uint64(env, is_virtual ? (uint64_t)(uintptr_t)region->memory : 0, &address);
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, key);
  napi_set_element(env, result, 1, address);
  return result;
}

/* closeRegion(region) -> 0 | -EBUSY: operations on it are under way. May be called again. */
napi_value close_region_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Region *region = region_of(env, arguments[0]);
  if (!region) return NULL;
  if (region->operations > 0) return number(env, -FI_EBUSY);
  close_region(region);
  return number(env, 0);
}
