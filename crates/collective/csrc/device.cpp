// What tch lacks of ATen's device switches: loading CUDA late, memory statistics, autocast with a dtype, TF32,
// determinism. Needs no CUDA headers.
#include "guard.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <dlfcn.h>
#include <link.h>

static std::string folder_of_libtorch() {
  void* handle = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
  struct link_map* map = nullptr;
  TORCH_CHECK(handle && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map, "libtorch_cpu.so is not loaded");
  std::string path = map->l_name;
  return path.substr(0, path.rfind('/') + 1);
}

extern "C" {

// RTLD_GLOBAL, because its static initialisers register the CUDA kernels and hooks for the whole process.
char* collective_load_cuda() {
  return guarded([&] {
    std::string path = folder_of_libtorch() + "libtorch_cuda.so";
    if (!dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) TORCH_CHECK(false, dlerror());
  });
}

// out: allocated now, its peak, reserved now, its peak; bytes
char* collective_cuda_memory(int device, int64_t out[4]) {
  return guarded([&] {
    auto stats = c10::getDeviceAllocator(c10::kCUDA)->getDeviceStats(device);
    out[0] = stats.allocated_bytes[0].current;
    out[1] = stats.allocated_bytes[0].peak;
    out[2] = stats.reserved_bytes[0].current;
    out[3] = stats.reserved_bytes[0].peak;
  });
}

char* collective_cuda_reset_peak(int device) {
  return guarded([&] { c10::getDeviceAllocator(c10::kCUDA)->resetPeakStats(device); });
}

// tch's own autocast flips the CUDA switch only and leaves the dtype at float16.
// cuda: 0 or 1; enabled: 0 switches it off; dtype: c10::ScalarType. The former state comes back in *was_enabled and
// *was_dtype.
char* collective_autocast_enter(int cuda, int enabled, int dtype, int* was_enabled, int* was_dtype) {
  return guarded([&] {
    auto device = cuda ? c10::kCUDA : c10::kCPU;
    *was_enabled = at::autocast::is_autocast_enabled(device);
    *was_dtype = static_cast<int>(at::autocast::get_autocast_dtype(device));
    at::autocast::set_autocast_dtype(device, static_cast<c10::ScalarType>(dtype));
    at::autocast::set_autocast_enabled(device, enabled != 0);
    at::autocast::increment_nesting();
  });
}

char* collective_autocast_leave(int cuda, int was_enabled, int was_dtype) {
  return guarded([&] {
    auto device = cuda ? c10::kCUDA : c10::kCPU;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device, was_enabled != 0);
    at::autocast::set_autocast_dtype(device, static_cast<c10::ScalarType>(was_dtype));
  });
}

char* collective_tf32(int on) {
  return guarded([&] {
    at::globalContext().setAllowTF32CuBLAS(on != 0);
    at::globalContext().setAllowTF32CuDNN(on != 0);
  });
}

// Operations without a deterministic variant warn rather than fail.
char* collective_deterministic(int on) {
  return guarded([&] {
    at::globalContext().setDeterministicAlgorithms(on != 0, /*warn_only=*/true);
    at::globalContext().setDeterministicCuDNN(on != 0);
    at::globalContext().setBenchmarkCuDNN(on == 0);
  });
}
}
