/*
 * The one thread of a device. libfabric's progress is manual with these providers: without somebody who reads the completion queues
 * nothing connects, arrives or is answered, also not what others read from here.
 *
 * It sleeps on the queues' descriptors; fi_trywait says whether it may. Queues that have none are looked at every so often.
 * While something is under way and something has just ended it looks again at once for a while, since sleeping and waking costs
 * more than a small operation.
 */
#define _GNU_SOURCE
#include "fabric.h"

#include <errno.h>
#include <signal.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define COMPLETIONS_AT_ONCE 64
#define EVENTS_AT_ONCE 16
/* While operations are held back: the provider does not say when it takes some again. */
#define HURRIED_MS 1
/* Only so that whatever was missed is not missed for good. */
#define IDLE_MS 1000
#define SPIN_NS 20000

typedef struct {
  Ending *first, *last;
} Endings;

static void append(Endings *endings, Ending *ending) {
  ending->next = NULL;
  if (endings->last)
    endings->last->next = ending;
  else
    endings->first = ending;
  endings->last = ending;
}

void wake(Device *device) {
  uint64_t one = 1;
  /* Full means that it is awake. */
  if (write(device->wake_descriptor, &one, sizeof one) < 0) return;
}

void order(Device *device) {
  atomic_store(&device->has_orders, true);
  wake(device);
}

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Completions ------------------------------------------------------------------------------------------------- */

static void end(Device *device, Operation *operation, Endings *endings) {
  atomic_fetch_sub(&device->posted, 1);
  append(endings, &operation->ending);
}

static void fail(Device *device, Operation *operation, int failure, Endings *endings) {
  operation->failure = failure;
  atomic_store(&operation->channel->is_broken, true);
  end(device, operation, endings);
}

/* False: the provider takes nothing now. */
static bool confirm(Device *device, Operation *operation, Endings *endings) {
  /* ofi_rxm would connect anew. */
  bool is_broken = atomic_load(&operation->channel->is_broken);
  ssize_t failure = is_broken ? -FI_ECONNABORTED : post_confirmation(operation);
  if (failure == -FI_EAGAIN) return false;
  operation->needs_confirmation = false;
  if (failure) fail(device, operation, (int)-failure, endings);
  return true;
}

static void complete(Channel *channel, Operation *operation, Endings *endings) {
  if (!operation->needs_confirmation) {
    end(channel->device, operation, endings);
  } else if (!confirm(channel->device, operation, endings)) {
    operation->next = channel->owing;
    channel->owing = operation;
  }
}

static void pay_what_is_owed(Channel *channel, Endings *endings) {
  while (channel->owing) {
    /* Taken off first: what has ended is not ours any more. */
    Operation *operation = channel->owing, *next = operation->next;
    if (!confirm(channel->device, operation, endings)) return;
    channel->owing = next;
  }
}

/* An operation that failed is not confirmed. */
static void take_failure(Channel *channel, Endings *endings) {
  struct fi_cq_err_entry entry = {0};
  if (fi_cq_readerr(channel->completions, &entry, 0) != 1 || !entry.op_context) return;
  Operation *operation = entry.op_context;
  operation->provider_failure = entry.prov_errno;
  fail(channel->device, operation, entry.err ? entry.err : FI_EOTHER, endings);
}

/* Whether anything was there. */
static bool serve(Channel *channel, Endings *endings) {
  struct fi_cq_entry entries[COMPLETIONS_AT_ONCE];
  if (channel->owing) pay_what_is_owed(channel, endings);
  ssize_t found = fi_cq_read(channel->completions, entries, COMPLETIONS_AT_ONCE);
  if (found == -FI_EAVAIL) {
    take_failure(channel, endings);
    return true;
  }
  /* What has no context was not started here. */
  for (ssize_t index = 0; index < found; index++)
    if (entries[index].op_context) complete(channel, entries[index].op_context, endings);
  return found > 0;
}

/* ---- Orders ------------------------------------------------------------------------------------------------------ */

static void take_over(Device *device) {
  pthread_mutex_lock(&device->mutex);
  Channel *channel = device->opened;
  device->opened = NULL;
  pthread_mutex_unlock(&device->mutex);
  while (channel) {
    Channel *next = channel->next_order;
    struct epoll_event event = {.events = EPOLLIN};
    if (channel->wait_descriptor >= 0 &&
        epoll_ctl(device->poll_descriptor, EPOLL_CTL_ADD, channel->wait_descriptor, &event))
      channel->wait_descriptor = -1;
    channel->next_served = device->served;
    device->served = channel;
    channel = next;
  }
}

static void close_served(Device *device, bool is_all, Endings *endings) {
  for (Channel **at = &device->served; *at;) {
    Channel *channel = *at;
    if (!is_all && !atomic_load(&channel->is_ordered_closed)) {
      at = &channel->next_served;
      continue;
    }
    *at = channel->next_served;
    if (channel->wait_descriptor >= 0)
      epoll_ctl(device->poll_descriptor, EPOLL_CTL_DEL, channel->wait_descriptor, NULL);
    close_endpoint(channel);
    append(endings, &channel->ending);
  }
}

/* ---- The thread -------------------------------------------------------------------------------------------------- */

/* How long it may sleep; 0: not at all. */
static int sleep_ms(Device *device) {
  int most = IDLE_MS;
  for (Channel *channel = device->served; channel; channel = channel->next_served) {
    struct fid *queue = &channel->completions->fid;
    if (channel->owing || channel->wait_descriptor < 0 || atomic_load(&channel->is_hurried)) most = HURRIED_MS;
    if (channel->wait_descriptor >= 0 && fi_trywait(device->fabric, &queue, 1) != FI_SUCCESS) return 0;
  }
  return most;
}

static void wait_for_something(Device *device) {
  struct epoll_event events[EVENTS_AT_ONCE];
  uint64_t count;
  int most = sleep_ms(device);
  if (most == 0) return;
  epoll_wait(device->poll_descriptor, events, EVENTS_AT_ONCE, most);
  if (read(device->wake_descriptor, &count, sizeof count) < 0) return;
}

static void *run(void *data) {
  Device *device = data;
  uint64_t last_ns = 0;
  while (!atomic_load(&device->must_abandon)) {
    Endings endings = {NULL, NULL};
    bool has_moved = false;
    if (atomic_exchange(&device->has_orders, false)) {
      take_over(device);
      close_served(device, false, &endings);
    }
    bool must_stop = atomic_load(&device->must_stop);
    if (must_stop) {
      take_over(device);
      close_served(device, true, &endings);
      append(&endings, &device->stopped);
    }
    for (Channel *channel = device->served; channel; channel = channel->next_served)
      has_moved |= serve(channel, &endings);
    if (endings.first) report(device, endings.first, endings.last);
    if (must_stop) break;
    if (has_moved) {
      last_ns = now_ns();
      continue;
    }
    if (atomic_load(&device->posted) > 0 && now_ns() - last_ns < SPIN_NS) continue;
    wait_for_something(device);
  }
  return NULL;
}

/* 0 or errno. Signals are for the threads of Node. */
int start_progress(Device *device) {
  struct epoll_event event = {.events = EPOLLIN};
  sigset_t all, before;
  device->wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  device->poll_descriptor = epoll_create1(EPOLL_CLOEXEC);
  if (device->wake_descriptor < 0 || device->poll_descriptor < 0) return errno;
  if (epoll_ctl(device->poll_descriptor, EPOLL_CTL_ADD, device->wake_descriptor, &event)) return errno;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = pthread_create(&device->thread, NULL, run, device);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!failure) pthread_setname_np(device->thread, "fabric");
  return failure;
}
