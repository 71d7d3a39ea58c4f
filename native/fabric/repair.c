/*
 * A repair of libfabric 1.17's tcp provider, which Debian 12 has. When a connection ends while a part of what was read has
 * arrived, it reports that operation twice, the second time without a context (upstream a74ea0fcd, in 1.18), and ofi_rxm follows the
 * context that is not there: the death of a peer would be ours. Such reports are dropped here. What the provider also does then, giving
 * one entry of its pool back twice, stays within the channel, and that takes nothing more after a failure (channel.c).
 *
 * ofi_rxm opens what it stands on by `fi_fabric`, which the dynamic linker looks for in what is loaded globally first: so it
 * finds this one, and from there on everything goes by libfabric's public objects, whose tables of functions are exchanged for copies.
 */
#define _GNU_SOURCE
#include "fabric.h"

#include <dlfcn.h>
#include <string.h>

#define REPAIRED_VERSION FI_VERSION(1, 18)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* The provider's, of which there is one each, and ours. */
static struct fi_ops_fabric *fabric_before, fabric_now;
static struct fi_ops_domain *domain_before, domain_now;
static struct fi_ops_cq *queue_before, queue_now;

/* A newer library's table may be longer than what is known here; then it is none that needs a repair. */
#define EXCHANGE(object, before, now, member, replacement) \
  do {                                                     \
    pthread_mutex_lock(&mutex);                            \
    if (!(before)) {                                       \
      (before) = (object)->ops;                            \
      memcpy(&(now), (before), sizeof(now));               \
      (now).member = (replacement);                        \
    }                                                      \
    if ((object)->ops == (before)) (object)->ops = &(now); \
    pthread_mutex_unlock(&mutex);                          \
  } while (0)

static ssize_t read_error(struct fid_cq *queue, struct fi_cq_err_entry *entry, uint64_t flags) {
  ssize_t result = queue_before->readerr(queue, entry, flags);
  return result > 0 && !entry->op_context ? -FI_EAGAIN : result;
}

static int open_queue(struct fid_domain *domain, struct fi_cq_attr *attributes, struct fid_cq **queue, void *context) {
  int failure = domain_before->cq_open(domain, attributes, queue, context);
  if (!failure) EXCHANGE(*queue, queue_before, queue_now, readerr, read_error);
  return failure;
}

static int open_domain(struct fid_fabric *fabric, struct fi_info *info, struct fid_domain **domain, void *context) {
  int failure = fabric_before->domain(fabric, info, domain, context);
  if (!failure) EXCHANGE(*domain, domain_before, domain_now, cq_open, open_queue);
  return failure;
}

/* Called by ofi_rxm. What JavaScript opens does not come by here. */
__attribute__((visibility("default"))) int fi_fabric(struct fi_fabric_attr *attributes, struct fid_fabric **fabric,
                                                     void *context) {
  const char *reason;
  const Library *library = load_library(&reason);
  if (!library) return -FI_ENOSYS;
  int failure = library->fabric(attributes, fabric, context);
  if (!failure && FI_VERSION_LT(library->version(), REPAIRED_VERSION) && attributes->prov_name &&
      strcmp(attributes->prov_name, "tcp") == 0)
    EXCHANGE(*fabric, fabric_before, fabric_now, domain, open_domain);
  return failure;
}

/* Before libfabric is loaded: from then on its references do not change. */
void make_repair_visible(void) {
  Dl_info own;
  if (dladdr((void *)make_repair_visible, &own)) dlopen(own.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}
