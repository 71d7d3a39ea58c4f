/* The calls as JavaScript sees them (src/rdma/fabric/addon.ts has their types), and how their arguments are read. */
#include "fabric.h"

napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

napi_value text(napi_env env, const char *value) {
  napi_value result;
  napi_create_string_utf8(env, value, NAPI_AUTO_LENGTH, &result);
  return result;
}

napi_value undefined(napi_env env) {
  napi_value result;
  napi_get_undefined(env, &result);
  return result;
}

void throw_bug(napi_env env, const char *message) { napi_throw_type_error(env, NULL, message); }

/* The first member of each structure is its magic. */
static void *structure_of(napi_env env, napi_value value, uint32_t magic, const char *complaint) {
  uint32_t *structure = NULL;
  if (napi_get_value_external(env, value, (void **)&structure) == napi_ok && structure && *structure == magic)
    return structure;
  throw_bug(env, complaint);
  return NULL;
}

Device *device_of(napi_env env, napi_value value) { return structure_of(env, value, DEVICE_MAGIC, "not a fabric device"); }
Region *region_of(napi_env env, napi_value value) { return structure_of(env, value, REGION_MAGIC, "not a region"); }
Channel *channel_of(napi_env env, napi_value value) { return structure_of(env, value, CHANNEL_MAGIC, "not a channel"); }

bool bytes_of(napi_env env, napi_value value, uint8_t **bytes, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, value, &type, length, (void **)bytes, NULL, NULL) == napi_ok &&
      type == napi_uint8_array)
    return true;
  throw_bug(env, "not a Uint8Array");
  return false;
}

/* explain(errno) -> text */
static napi_value explain_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  int32_t error = 0;
  const char *reason;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_int32(env, arguments[0], &error);
  const Library *library = load_library(&reason);
  return text(env, library ? library->strerror(error) : reason);
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback call;
  } calls[] = {
      {"openDevice", open_device_call},
      {"describeDevice", describe_device_call},
      {"closeDevice", close_device_call},
      {"registerRegion", register_region_call},
      {"describeRegion", describe_region_call},
      {"closeRegion", close_region_call},
      {"openChannel", open_channel_call},
      {"describeChannel", describe_channel_call},
      {"resolveName", resolve_name_call},
      {"connectChannel", connect_channel_call},
      {"start", start_call},
      {"hurry", hurry_call},
      {"closeChannel", close_channel_call},
      {"explain", explain_call},
  };
  for (size_t index = 0; index < sizeof calls / sizeof *calls; index++) {
    napi_value function;
    napi_create_function(env, calls[index].name, NAPI_AUTO_LENGTH, calls[index].call, NULL, &function);
    napi_set_named_property(env, exports, calls[index].name, function);
  }
  return exports;
}
