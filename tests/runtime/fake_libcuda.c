/* A CUDA driver without a GPU: it accepts everything, and remembers what was launched. */

#include <stdint.h>
#include <string.h>

typedef struct {
  unsigned grid[3], block[3], shared;
  void *stream;
  void *attributes;
  unsigned count;
} Config; /* CUlaunchConfig */

enum { MOST = 32 };

int launches;
uint64_t function, stream;
unsigned grid[3], block[3];
uint64_t parameters[MOST];
int parameter_count; /* set by the test: how many 8-byte parameters the kernel takes */

int cuLaunchKernelEx(const Config *config, void *f, void **given, void **extra) {
  (void)extra;
  launches++;
  function = (uint64_t)f;
  stream = (uint64_t)config->stream;
  memcpy(grid, config->grid, sizeof grid);
  memcpy(block, config->block, sizeof block);
  for (int i = 0; i < parameter_count && i < MOST; i++)
    parameters[i] = *(uint64_t *)given[i];
  return 0;
}

int cuGetErrorString(int code, const char **text) {
  (void)code;
  *text = "fake";
  return 0;
}

#define FILLS(name, type, value) \
  int name(type *out) { \
    *out = value; \
    return 0; \
  }
#define IGNORES(name) \
  int name(void) { return 0; }

FILLS(cuCtxGetCurrent, void *, (void *)1)
FILLS(cuDeviceGet, int, 0)
FILLS(cuDeviceGetAttribute, int, 232448)
FILLS(cuDevicePrimaryCtxRetain, void *, (void *)1)
FILLS(cuDriverGetVersion, int, 13000)
FILLS(cuFuncGetAttribute, int, 1024)
FILLS(cuModuleGetFunction, void *, (void *)42)
FILLS(cuModuleLoadData, void *, (void *)41)
IGNORES(cuCtxGetLimit)
IGNORES(cuCtxSetCurrent)
IGNORES(cuCtxSetLimit)
IGNORES(cuFuncSetAttribute)
IGNORES(cuFuncSetCacheConfig)
IGNORES(cuOccupancyMaxActiveClusters)
IGNORES(cuPointerGetAttribute)
IGNORES(cuPointerGetAttributes)
IGNORES(cuTensorMapEncodeIm2col)
IGNORES(cuTensorMapEncodeTiled)
