/*
 * The ceiling of `rdma`: one-sided reads with libfabric and nothing else. One process has the memory, the other reads it.
 *
 *     peer serve PROVIDER ADDRESS WAIT PROGRESS THREADING
 *     peer read PROVIDER ADDRESS WAIT PROGRESS THREADING
 *
 * PROVIDER is libfabric's name, such as tcp;ofi_rxm. WAIT says how completions are looked for: `spin` looks again and again, `fd` waits for the completion queue's
 * descriptor when there is none, `sread` lets the library wait, and `thread` is `fd` in a thread of its own, while another one starts the reads. PROGRESS is `manual` or
 * `auto`, THREADING `safe` or `domain`: what the library is asked for. With `auto` the one that serves never calls the library.
 *
 * Both print `NAME KEY ADDRESS` in hexadecimal digits, and take the same of the other one as the first line of their standard input. Then
 *
 *     serve takes  begin            it serves until the next line, whatever that says, and prints its CPU time in nanoseconds
 *     read takes   BYTES DEPTH MS   it reads so many bytes at a time for so long, and prints `READS NANOSECONDS CPU_NANOSECONDS`
 *
 * and both end with their standard input.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY_BYTES = 64 << 20, DEPTH_MAX = 64, BATCH = 64, SPINS_PER_LOOK = 256, WAIT_MS = 100, AGAIN_MS = 1, LINE_MAX_BYTES = 1024 };

enum wait { SPIN, FD, SREAD, THREAD, WAITS };
static const char *const WAIT_NAMES[WAITS] = { "spin", "fd", "sread", "thread" };

static struct fid_fabric *fabric;
static struct fid_domain *domain;
static struct fid_ep *endpoint;
static struct fid_av *addresses;
static struct fid_cq *completions;
static struct fid_mr *region;
static char *memory;
static enum wait waiting;
static bool is_automatic;
static int completions_fd = -1;

static fi_addr_t other;
static uint64_t other_key, other_address;
/* Of each slot of the local memory; the library's while a read is under way. */
static struct fi_context2 contexts[DEPTH_MAX];

static void fail(const char *what, long code) {
  fprintf(stderr, "%s: %s\n", what, fi_strerror((int)-code));
  exit(1);
}

static long check(const char *what, long code) {
  if (code < 0) fail(what, code);
  return code;
}

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void open_domain(const char *provider, const char *address, bool is_safe) {
  struct fi_info *hints = fi_allocinfo(), *info;
  hints->caps = FI_RMA | FI_MSG;
  hints->ep_attr->type = FI_EP_RDM;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_VIRT_ADDR;
  hints->domain_attr->threading = is_safe ? FI_THREAD_SAFE : FI_THREAD_DOMAIN;
  hints->domain_attr->data_progress = is_automatic ? FI_PROGRESS_AUTO : FI_PROGRESS_UNSPEC;
  hints->domain_attr->control_progress = hints->domain_attr->data_progress;
  hints->fabric_attr->prov_name = strdup(provider);
  check("fi_getinfo", fi_getinfo(FI_VERSION(1, 17), address, NULL, FI_SOURCE, hints, &info));
  check("fi_fabric", fi_fabric(info->fabric_attr, &fabric, NULL));
  check("fi_domain", fi_domain(fabric, info, &domain, NULL));
  struct fi_av_attr table = { .type = FI_AV_TABLE };
  check("fi_av_open", fi_av_open(domain, &table, &addresses, NULL));
  struct fi_cq_attr queue = { .format = FI_CQ_FORMAT_CONTEXT, .size = 4096 };
  queue.wait_obj = waiting == SPIN ? FI_WAIT_NONE : FI_WAIT_FD;
  check("fi_cq_open", fi_cq_open(domain, &queue, &completions, NULL));
  if (waiting != SPIN) check("fi_control", fi_control(&completions->fid, FI_GETWAIT, &completions_fd));
  check("fi_endpoint", fi_endpoint(domain, info, &endpoint, NULL));
  check("fi_ep_bind", fi_ep_bind(endpoint, &addresses->fid, 0));
  check("fi_ep_bind", fi_ep_bind(endpoint, &completions->fid, FI_TRANSMIT | FI_RECV));
  check("fi_enable", fi_enable(endpoint));
  memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) fail("mmap", -FI_ENOMEM);
  memset(memory, 0x61, MEMORY_BYTES);
  check("fi_mr_reg", fi_mr_reg(domain, memory, MEMORY_BYTES, FI_READ | FI_WRITE | FI_REMOTE_READ, 0, 1, 0, &region, NULL));
  char name[256];
  size_t length = sizeof name;
  check("fi_getname", fi_getname(&endpoint->fid, name, &length));
  for (size_t at = 0; at < length; at++) printf("%02x", (unsigned char)name[at]);
  uint64_t base = info->domain_attr->mr_mode & FI_MR_VIRT_ADDR ? (uint64_t)memory : 0;
  printf(" %lx %lx\n", fi_mr_key(region), base);
}

static void meet_other(const char *line) {
  char digits[512], name[256];
  if (sscanf(line, "%511s %lx %lx", digits, &other_key, &other_address) != 3) fail("the other end's name", -FI_EINVAL);
  for (size_t at = 0; digits[at * 2] != 0; at++) {
    unsigned byte;
    sscanf(&digits[at * 2], "%2x", &byte);
    name[at] = (char)byte;
  }
  if (fi_av_insert(addresses, name, 1, &other, 0, NULL) != 1) fail("fi_av_insert", -FI_EINVAL);
}

/* Waits for the descriptor, and for that of `also`. */
static bool is_said(int also, int wait_ms) {
  struct pollfd wanted[2] = { { .fd = also, .events = POLLIN }, { .fd = completions_fd, .events = POLLIN } };
  poll(wanted, completions_fd < 0 ? 1 : 2, wait_ms);
  return wanted[0].revents != 0;
}

static void serve_until_said(void) {
  if (is_automatic) return;
  struct fid *waited = &completions->fid;
  struct fi_cq_entry entry;
  for (long spins = 0;; spins++) {
    if (waiting == SPIN) {
      fi_cq_read(completions, &entry, 1);
      if (spins % SPINS_PER_LOOK == 0 && is_said(STDIN_FILENO, 0)) return;
    } else {
      if (fi_trywait(fabric, &waited, 1) == 0 && is_said(STDIN_FILENO, WAIT_MS)) return;
      fi_cq_read(completions, &entry, 1);
    }
  }
}

static bool start_read(int slot, size_t bytes, uint64_t index) {
  uint64_t local = (uint64_t)slot * bytes % MEMORY_BYTES, remote = index * bytes % MEMORY_BYTES;
  long code = fi_read(endpoint, memory + local, bytes, fi_mr_desc(region), other, other_address + remote, other_key, &contexts[slot]);
  if (code == -FI_EAGAIN) return false;
  check("fi_read", code);
  return true;
}

/* Reads that could not be started are to be tried again before long: nobody says when they can. */
static long look(struct fi_cq_entry *ended, bool is_held_back) {
  int wait_ms = is_held_back ? AGAIN_MS : WAIT_MS;
  struct fid *waited = &completions->fid;
  long count = fi_cq_read(completions, ended, BATCH);
  if (count == -FI_EAGAIN && waiting == SREAD) count = fi_cq_sread(completions, ended, BATCH, NULL, wait_ms);
  else if (count == -FI_EAGAIN && waiting != SPIN && fi_trywait(fabric, &waited, 1) == 0) is_said(-1, wait_ms);
  if (count == -FI_EAGAIN || count == -FI_EINTR) return 0;
  return check("fi_cq_read", count);
}

static int free_slots[DEPTH_MAX];
static int free_count;

static uint64_t read_alone(size_t bytes, uint64_t end) {
  struct fi_cq_entry ended[BATCH];
  uint64_t started = 0, done = 0;
  bool is_over = false;
  while (!is_over || done < started) {
    while (!is_over && free_count > 0 && start_read(free_slots[free_count - 1], bytes, started)) {
      free_count--;
      started++;
    }
    long count = look(ended, !is_over && free_count > 0);
    for (long at = 0; at < count; at++) free_slots[free_count++] = (int)((struct fi_context2 *)ended[at].op_context - contexts);
    done += (uint64_t)count;
    is_over = is_over || nanoseconds(CLOCK_MONOTONIC) >= end;
  }
  return done;
}

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t slots_free;
static volatile bool is_looking;

static void *look_for_completions(void *unused) {
  struct fi_cq_entry ended[BATCH];
  while (is_looking) {
    long count = look(ended, false);
    pthread_mutex_lock(&slots_lock);
    for (long at = 0; at < count; at++) free_slots[free_count++] = (int)((struct fi_context2 *)ended[at].op_context - contexts);
    pthread_mutex_unlock(&slots_lock);
    for (long at = 0; at < count; at++) sem_post(&slots_free);
  }
  return unused;
}

static uint64_t read_beside_thread(size_t bytes, int depth, uint64_t end) {
  pthread_t looker;
  uint64_t started = 0;
  sem_init(&slots_free, 0, (unsigned)depth);
  is_looking = true;
  pthread_create(&looker, NULL, look_for_completions, NULL);
  while (nanoseconds(CLOCK_MONOTONIC) < end) {
    sem_wait(&slots_free);
    pthread_mutex_lock(&slots_lock);
    int slot = free_slots[--free_count];
    pthread_mutex_unlock(&slots_lock);
    while (!start_read(slot, bytes, started)) sched_yield();
    started++;
  }
  for (int slot = 0; slot < depth; slot++) sem_wait(&slots_free);
  is_looking = false;
  pthread_join(looker, NULL);
  return started;
}

static void serve(void) {
  char line[LINE_MAX_BYTES];
  while (fgets(line, sizeof line, stdin) != NULL) {
    uint64_t before = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    serve_until_said();
    if (fgets(line, sizeof line, stdin) == NULL) return;
    printf("%lu\n", nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - before);
  }
}

static void read_as_told(void) {
  char line[LINE_MAX_BYTES];
  while (fgets(line, sizeof line, stdin) != NULL) {
    size_t bytes;
    int depth;
    uint64_t milliseconds;
    if (sscanf(line, "%zu %d %lu", &bytes, &depth, &milliseconds) != 3 || depth > DEPTH_MAX) fail("what was asked", -FI_EINVAL);
    free_count = 0;
    for (int slot = 0; slot < depth; slot++) free_slots[free_count++] = slot;
    uint64_t before = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), start = nanoseconds(CLOCK_MONOTONIC), end = start + milliseconds * 1000000u;
    uint64_t reads = waiting == THREAD ? read_beside_thread(bytes, depth, end) : read_alone(bytes, end);
    uint64_t took = nanoseconds(CLOCK_MONOTONIC) - start;
    printf("%lu %lu %lu\n", reads, took, nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - before);
  }
}

int main(int count, char **words) {
  char line[LINE_MAX_BYTES];
  if (count != 7) fail("usage: peer serve|read PROVIDER ADDRESS WAIT PROGRESS THREADING", -FI_EINVAL);
  while (waiting < WAITS && strcmp(words[4], WAIT_NAMES[waiting]) != 0) waiting++;
  if (waiting == WAITS) fail("WAIT", -FI_EINVAL);
  is_automatic = strcmp(words[5], "auto") == 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  /* Lines are waited for with poll: none may lie in a buffer. */
  setvbuf(stdin, NULL, _IONBF, 0);
  open_domain(words[2], words[3], strcmp(words[6], "safe") == 0);
  if (fgets(line, sizeof line, stdin) == NULL) return 0;
  meet_other(line);
  if (strcmp(words[1], "serve") == 0) serve();
  else read_as_told();
  return 0;
}
