/*
 * What the files of this addon share: one-sided reads and writes between the memories of processes, on libfabric. Mechanism only;
 * deadlines, retry, order, splitting and credit are TypeScript (src/rdma/fabric).
 *
 *     library.c   libfabric, opened when first wanted, and what becomes of our threads when the process exits
 *     repair.c    what is amiss in one version of it
 *     device.c    fabric and domain; begins, ends
 *     region.c    memory that is registered
 *     resolve.c   whether the other end's address can be resolved
 *     channel.c   endpoint, address vector and completion queue of their own; operations begin here
 *     progress.c  the one thread of a device, which serves the queues of all its channels
 *     delivery.c  what that thread has seen, handed to JavaScript by the batch
 *     module.c    the calls, and how their arguments are read
 *
 * Threads: every structure belongs to the JavaScript thread that opened the device, except where it says otherwise. The progress
 * thread takes channels over from it and gives them back closed; nothing of a channel's libfabric objects is touched by
 * JavaScript once it has ordered the close. Several environments (workers) have devices of their own and share nothing but the
 * library and the list that the exit handler walks.
 *
 * Life: a structure lives until its last reference goes (its handle in JavaScript, what stands on it). When an environment ends,
 * a clean-up hook joins the thread and closes everything; when the process exits at once, the exit handler ends the threads
 * before libfabric is torn down.
 */
#ifndef TIDEGATE_FABRIC_H
#define TIDEGATE_FABRIC_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <pthread.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#define DEVICE_MAGIC 0x7446616bu
#define REGION_MAGIC 0x74466172u
#define CHANNEL_MAGIC 0x74466163u

/* Of an endpoint. Sockaddrs, in all that we use. */
#define NAME_BYTES_MAX 128
/* Under way on one channel; its completion queue holds as many. */
#define CHANNEL_OPERATIONS_MAX 1024
/* What is read behind a write, where a provider does not say itself that the bytes have arrived. */
#define CONFIRMING_BYTES 8
#define ANY_CHANNEL UINT64_MAX
/* Not an errno: the channel was closed. */
#define CUT_OFF (-1)

typedef struct Device Device;
typedef struct Region Region;
typedef struct Channel Channel;

/* Of what the progress thread reports; first in the structure that it is about, or not alone. */
typedef enum { OPERATION_ENDED, CHANNEL_CLOSED, DEVICE_STOPPED } EndingKind;

typedef struct Ending {
  struct Ending *next;
  EndingKind kind;
} Ending;

/* Of both ends of a channel. */
typedef struct {
  _Alignas(struct sockaddr_storage) uint8_t own[NAME_BYTES_MAX];
  _Alignas(struct sockaddr_storage) uint8_t other[NAME_BYTES_MAX];
} Names;

/* From a pool of the device's; the id is its place in there. */
typedef struct Operation {
  struct fi_context2 provider; /* libfabric's while it is under way */
  Ending ending;
  struct Operation *next; /* of those that are free, or that owe a confirming read */
  Channel *channel;
  Region *region;
  uint32_t id;
  bool is_under_way;
  bool needs_confirmation;
  uint64_t remote_end;
  uint64_t remote_key;
  uint32_t confirming_bytes;
  int failure, provider_failure;
} Operation;

struct Region {
  uint32_t magic;
  int references;
  Device *device;
  Region *next, *previous; /* of the device's */
  struct fid_mr *registration; /* NULL: closed */
  napi_ref memory_reference;
  uint8_t *memory;
  size_t bytes;
  uint32_t operations;
  bool is_abandoned;
  /* Who else may reach it: nobody, all who have its key, or those at the other end of one channel. */
  bool is_lent;
  uint64_t lent_through; /* the channel's serial; ANY_CHANNEL */
  /* Channels with a lower serial were open when it was closed. */
  uint64_t lingers_for;
};

struct Channel {
  uint32_t magic;
  int references;
  Device *device;
  Channel *next, *previous; /* of the device's that are open */
  Ending ending;
  int32_t id;
  uint64_t serial;
  struct fid_ep *endpoint;
  struct fid_av *addresses;
  struct fid_cq *completions;
  fi_addr_t peer;
  bool is_connected;
  uint32_t operations;
  bool is_closing;
  /* Ordered by JavaScript, read by the progress thread. */
  Channel *next_order;
  _Atomic bool is_ordered_closed;
  _Atomic bool is_hurried;
  /* Set by the progress thread. */
  _Atomic bool is_broken;
  /* The progress thread's. */
  Channel *next_served;
  Operation *owing;
  int wait_descriptor;
};

struct Device {
  uint32_t magic;
  int references;
  napi_env env;
  napi_async_cleanup_hook_handle cleanup;
  Device *next_running; /* library.c */
  struct fi_info *info;
  struct fid_fabric *fabric;
  struct fid_domain *domain;
  bool reads_behind;
  /* Where confirming reads land; nobody looks at it. */
  uint8_t *scratch;
  struct fid_mr *scratch_registration;
  size_t operation_bytes_max;
  Region *regions;
  Region *lingering;
  Channel *channels;
  uint64_t next_serial;

  uv_async_t async;
  bool is_async_open;
  uint32_t busy; /* operations and closes under way: while there are any, the process is kept alive */
  napi_ref on_batch;
  napi_ref batch_reference;
  int32_t *batch;
  size_t batch_length;

  Operation **chunks;
  uint32_t chunk_count;
  Operation *free_operations;
  Operation *told_operations; /* that have ended; their ids are free once JavaScript has heard it */

  pthread_t thread;
  bool is_thread_running;
  int wake_descriptor;
  int poll_descriptor;
  Channel *served; /* the progress thread's */
  Ending stopped;
  bool is_stopping;
  _Atomic bool must_stop;
  _Atomic bool must_abandon;
  _Atomic bool has_orders;
  _Atomic uint32_t posted;
  pthread_mutex_t mutex; /* of what follows */
  Channel *opened;
  Ending *endings_first, *endings_last;
};

/* ---- library.c ---- */
typedef struct {
  __typeof__(&fi_getinfo) getinfo;
  __typeof__(&fi_fabric) fabric;
  __typeof__(&fi_dupinfo) dupinfo;
  __typeof__(&fi_freeinfo) freeinfo;
  __typeof__(&fi_strerror) strerror;
  __typeof__(&fi_version) version;
} Library;

/* NULL with a reason. */
const Library *load_library(const char **reason);
void add_running(Device *device);
void remove_running(Device *device);

/* ---- repair.c ---- */
void make_repair_visible(void);

/* ---- device.c ---- */
napi_value open_device_call(napi_env env, napi_callback_info info);
napi_value describe_device_call(napi_env env, napi_callback_info info);
napi_value close_device_call(napi_env env, napi_callback_info info);
void release_device(Device *device);
/* After the thread has ended: closes what is left. */
void finish_device(Device *device);
void add_busy(Device *device);
void remove_busy(Device *device);

/* ---- region.c ---- */
napi_value register_region_call(napi_env env, napi_callback_info info);
napi_value describe_region_call(napi_env env, napi_callback_info info);
napi_value close_region_call(napi_env env, napi_callback_info info);
void end_operation_on(Region *region);
void close_regions(Device *device);
/* Memory that no open channel can touch any more is let go. */
void let_lingering_go(Device *device);

/* ---- resolve.c ---- */
napi_value resolve_name_call(napi_env env, napi_callback_info info);

/* ---- channel.c ---- */
napi_value open_channel_call(napi_env env, napi_callback_info info);
napi_value describe_channel_call(napi_env env, napi_callback_info info);
napi_value connect_channel_call(napi_env env, napi_callback_info info);
napi_value start_call(napi_env env, napi_callback_info info);
napi_value hurry_call(napi_env env, napi_callback_info info);
napi_value close_channel_call(napi_env env, napi_callback_info info);
void close_endpoint(Channel *channel);
/* 0, or errno: what a peer says and is of another length or family would be read beyond its end. */
int names_of(Channel *channel, const uint8_t *other, size_t length, Names *names);
/* The progress thread has closed it: ends what was under way and gives up what it stood on. */
void settle_channel(Channel *channel);
/* Its id stays taken until JavaScript has been told. */
void end_operation(Operation *operation);
/* Of the pool, under way on this channel, from this id on; or NULL. */
Operation *next_under_way(const Channel *channel, uint32_t id);
void recycle_operations(Device *device);
void free_operations(Device *device);
/* Behind a write that has been carried out. @returns libfabric's */
ssize_t post_confirmation(Operation *operation);

/* ---- progress.c ---- */
int start_progress(Device *device);
void order(Device *device);
void wake(Device *device);

/* ---- delivery.c ---- */
void on_endings(uv_async_t *async);
/* From the progress thread: a list, first to last. */
void report(Device *device, Ending *first, Ending *last);

/* ---- module.c ---- */
napi_value number(napi_env env, int64_t value);
napi_value text(napi_env env, const char *value);
napi_value undefined(napi_env env);
/* With an exception pending: NULL. */
Device *device_of(napi_env env, napi_value value);
Region *region_of(napi_env env, napi_value value);
Channel *channel_of(napi_env env, napi_value value);
bool bytes_of(napi_env env, napi_value value, uint8_t **bytes, size_t *length);
void throw_bug(napi_env env, const char *message);

#endif
