/*
 * Whether the other end's address can be resolved, found out beside JavaScript. With verbs, ofi_rxm resolves it when the first
 * operation is posted, on the thread that posts it and with its locks held, for up to two seconds (libfabric 1.17, vrb_create_ep).
 * What the kernel has resolved just before is answered at once, so it is asked for here first, and an address that nobody
 * answers for is never given to ofi_rxm.
 */
#define _GNU_SOURCE
#include "fabric.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RESOLVE_MS 500
/* rdma/rdma_cma.h, which need not be there. An identifier without an event channel waits for what it is told. */
#define PORT_SPACE_TCP 0x0106
typedef int CreateId(void *events, void **id, void *context, int port_space);
typedef int ResolveAddress(void *id, struct sockaddr *from, struct sockaddr *to, int timeout_ms);
typedef int DestroyId(void *id);

typedef struct {
  napi_async_work work;
  napi_deferred deferred;
  Names names;
  int failure;
} Resolving;

/* The library that libfabric's verbs stands on. 0 or errno. */
static int resolve(Names *names) {
  void *library = dlopen("librdmacm.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) return 0; /* then libfabric has no verbs, and nothing is resolved */
  CreateId *create = (CreateId *)dlsym(library, "rdma_create_id");
  ResolveAddress *resolve_address = (ResolveAddress *)dlsym(library, "rdma_resolve_addr");
  DestroyId *destroy = (DestroyId *)dlsym(library, "rdma_destroy_id");
  void *id = NULL;
  if (!create || !resolve_address || !destroy) return ENOSYS;
  if (create(NULL, &id, NULL, PORT_SPACE_TCP)) return errno;
  /* From any port of this address. */
  struct sockaddr *own = (struct sockaddr *)names->own, *other = (struct sockaddr *)names->other;
  if (own->sa_family == AF_INET6)
    ((struct sockaddr_in6 *)own)->sin6_port = 0;
  else
    ((struct sockaddr_in *)own)->sin_port = 0;
  int failure = resolve_address(id, own, other, RESOLVE_MS) ? errno : 0;
  destroy(id);
  return failure;
}

static void on_worker(napi_env env, void *data) {
  Resolving *resolving = data;
  (void)env;
  resolving->failure = resolve(&resolving->names);
}

static void on_done(napi_env env, napi_status status, void *data) {
  Resolving *resolving = data;
  int failure = status == napi_ok ? resolving->failure : ECANCELED;
  napi_resolve_deferred(env, resolving->deferred, number(env, -failure));
  napi_delete_async_work(env, resolving->work);
  free(resolving);
}

/* resolveName(channel, name: Uint8Array) -> Promise of 0 | -errno. Bounded. */
napi_value resolve_name_call(napi_env env, napi_callback_info info) {
  size_t count = 2, length;
  napi_value arguments[2], promise;
  uint8_t *name;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Channel *channel = channel_of(env, arguments[0]);
  if (!channel || !bytes_of(env, arguments[1], &name, &length)) return NULL;
  Resolving *resolving = calloc(1, sizeof *resolving);
  int failure = resolving ? names_of(channel, name, length, &resolving->names) : ENOMEM;
  if (!failure && (napi_create_async_work(env, NULL, text(env, "fabric"), on_worker, on_done, resolving,
                                          &resolving->work) != napi_ok ||
                   napi_queue_async_work(env, resolving->work) != napi_ok))
    failure = ENOMEM;
  napi_deferred deferred;
  napi_create_promise(env, &deferred, &promise);
  if (!failure) {
    resolving->deferred = deferred;
    return promise;
  }
  free(resolving);
  napi_resolve_deferred(env, deferred, number(env, -failure));
  return promise;
}
