/* A CUDA driver without a GPU: it accepts everything, and remembers what was launched. */

#include <stdint.h>
#include <string.h>

enum { MOST = 32 };

int launches, contexts;
int errors[4]; /* what the next launches return */
int shared_asked;
uint64_t function, stream;
unsigned grid[3], block[3], shared;
uint64_t parameters[MOST];
int parameter_count; /* set by the test: how many 8-byte parameters the kernel takes */
char symbol[64];

int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned bytes, void *on, void **given, void **extra) {
  (void)extra;
  int code = errors[launches % 4];
  errors[launches % 4] = 0;
  launches++;
  if (code) return code;
  function = (uint64_t)f;
  stream = (uint64_t)on;
  grid[0] = gx, grid[1] = gy, grid[2] = gz;
  block[0] = bx, block[1] = by, block[2] = bz;
  shared = bytes;
  for (int i = 0; i < parameter_count && i < MOST; i++)
    parameters[i] = *(uint64_t *)given[i];
  return 0;
}

int cuGetErrorString(int code, const char **text) {
  *text = code == 201 ? "invalid device context" : "fake";
  return 0;
}

int cuModuleGetFunction(void **out, void *module, const char *name) {
  (void)module;
  strncpy(symbol, name, sizeof symbol - 1);
  *out = (void *)42;
  return 0;
}

int cuCtxSetCurrent(void *context) {
  (void)context;
  contexts++;
  return 0;
}

int cuFuncSetAttribute(void *f, int attribute, int value) {
  (void)f;
  if (attribute == 8) shared_asked = value; /* MAX_DYNAMIC_SHARED_SIZE_BYTES */
  return 0;
}

#define FILLS(name, type, value) \
  int name(type *out) { \
    *out = value; \
    return 0; \
  }
#define IGNORES(name) \
  int name(void) { return 0; }

FILLS(cuDeviceGet, int, 0)
FILLS(cuDeviceGetAttribute, int, 232448)
FILLS(cuDevicePrimaryCtxRetain, void *, (void *)1)
FILLS(cuModuleLoadData, void *, (void *)41)
IGNORES(cuFuncSetCacheConfig)
IGNORES(cuInit)
