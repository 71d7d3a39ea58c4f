/*
 * libfabric, opened when a device is first wanted, so that the addon loads without it. Six functions are symbols of the library;
 * all others are reached through the objects.
 */
#define _GNU_SOURCE
#include "fabric.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* An older one knows neither these hints nor these providers' names. */
#define VERSION_MIN FI_VERSION(1, 17)
#define EXIT_JOIN_SECONDS_MAX 2

static pthread_once_t loaded = PTHREAD_ONCE_INIT;
static Library library;
static char failure[256];

/* Devices whose thread runs, of all environments. */
static pthread_mutex_t running_mutex = PTHREAD_MUTEX_INITIALIZER;
static Device *running;

/*
 * At `process.exit` no clean-up hook runs for the main thread, and libfabric's destructors follow this. What the kernel cleans up
 * is left to it: the threads only have to be out of the library.
 */
static void on_exit_of_process(void) {
  pthread_mutex_lock(&running_mutex);
  for (Device *device = running; device; device = device->next_running) {
    atomic_store(&device->must_abandon, true);
    order(device);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += EXIT_JOIN_SECONDS_MAX;
    pthread_timedjoin_np(device->thread, NULL, &until);
  }
  running = NULL;
  pthread_mutex_unlock(&running_mutex);
}

void add_running(Device *device) {
  pthread_mutex_lock(&running_mutex);
  device->next_running = running;
  running = device;
  pthread_mutex_unlock(&running_mutex);
}

void remove_running(Device *device) {
  pthread_mutex_lock(&running_mutex);
  for (Device **at = &running; *at; at = &(*at)->next_running) {
    if (*at != device) continue;
    *at = device->next_running;
    break;
  }
  pthread_mutex_unlock(&running_mutex);
}

static void load(void) {
  /* Providers that look for hardware of their own and take seconds for it, or do not fit these hints. */
  setenv("FI_PROVIDER", "^psm,psm2,psm3", 0);
  /* Soft-RoCE sizes its queues by this, and cannot make those for the 256 that is the default. */
  setenv("FI_UNIVERSE_SIZE", "16", 0);
  /*
   * No cache of registrations, whoever wants one: with it the adapter goes on serving a region that was closed, and one registered
   * for fewer rights over memory that was known before keeps those it had.
   */
  setenv("FI_MR_CACHE_MONITOR", "disabled", 1);
  setenv("FI_MR_CACHE_MAX_COUNT", "0", 1);
  /*
   * One queue for what all connections of an endpoint receive. Of those that have their own, ofi_rxm posts a buffer again on a connection
   * that it has just closed, when a message of its own (credits) had come and was not looked at: over verbs a crash at close.
   */
  setenv("FI_OFI_RXM_USE_SRX", "1", 1);
  /* What ofi_rxm allocates for each endpoint is for messages, which nobody sends here: a channel had 68 MiB and took 119 ms to open. */
  setenv("FI_OFI_RXM_BUFFER_SIZE", "512", 0);
  setenv("FI_OFI_RXM_MSG_RX_SIZE", "16", 0);
  setenv("FI_OFI_RXM_RX_SIZE", "64", 0);
  setenv("FI_OFI_RXM_TX_SIZE", "256", 0);
  make_repair_visible();
  /* Never closed: its threads and handlers may outlive what we know of. */
  void *handle = dlopen("libfabric.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) {
    snprintf(failure, sizeof failure, "libfabric.so.1 cannot be loaded (Debian: apt install libfabric1): %s", dlerror());
    return;
  }
  struct {
    const char *name;
    void **function;
  } symbols[] = {
      {"fi_getinfo", (void **)&library.getinfo},   {"fi_fabric", (void **)&library.fabric},
      {"fi_dupinfo", (void **)&library.dupinfo},   {"fi_freeinfo", (void **)&library.freeinfo},
      {"fi_strerror", (void **)&library.strerror}, {"fi_version", (void **)&library.version},
  };
  for (size_t index = 0; index < sizeof symbols / sizeof *symbols; index++) {
    *symbols[index].function = dlsym(handle, symbols[index].name);
    if (*symbols[index].function) continue;
    snprintf(failure, sizeof failure, "libfabric.so.1 has no %s", symbols[index].name);
    return;
  }
  uint32_t version = library.version();
  if (FI_VERSION_LT(version, VERSION_MIN)) {
    snprintf(failure, sizeof failure, "libfabric %u.%u is too old: 1.17 is the oldest that is used", FI_MAJOR(version),
             FI_MINOR(version));
    return;
  }
  /* With the first question it starts what it did not start when it was loaded. */
  struct fi_info *nothing = NULL;
  if (library.getinfo(VERSION_MIN, NULL, NULL, 0, NULL, &nothing) == 0) library.freeinfo(nothing);
  /* Handlers run in reverse order, so before those of the library and of what it has loaded. */
  atexit(on_exit_of_process);
}

/*
 * The library's shared-memory provider, which is not used here, takes the signals that end a process for itself as soon as it is there, and the process would end without having drained. So
 * whoever loads it has its signals back afterwards.
 */
static void load_once(void) {
  struct sigaction before[NSIG];
  bool is_known[NSIG];
  for (int number = 1; number < NSIG; number++) is_known[number] = sigaction(number, NULL, &before[number]) == 0;
  load();
  for (int number = 1; number < NSIG; number++)
    if (is_known[number]) sigaction(number, &before[number], NULL);
}

const Library *load_library(const char **reason) {
  pthread_once(&loaded, load_once);
  *reason = failure;
  return failure[0] ? NULL : &library;
}
