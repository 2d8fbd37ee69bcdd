// Collectives: c10d's Gloo and NCCL backends behind one C ABI.
//
// The wheels ship c10d's headers but neither gloo's nor nccl's, so ProcessGroupGloo.hpp and ProcessGroupNCCL.hpp
// cannot be included. Both backends are made by calling their exported constructors by mangled name; after that only
// the virtual interface of c10d::Backend is used, whose header is complete.
#include "guard.h"
#include "store.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <dlfcn.h>
#include <cstdlib>
#include <memory>
#include <vector>

using StorePtr = c10::intrusive_ptr<c10d::Store>;
using OptionsPtr = c10::intrusive_ptr<c10d::Backend::Options>;
using BackendPtr = c10::intrusive_ptr<c10d::Backend>;
using std::chrono::milliseconds;

struct Group {
  BackendPtr cpu;
  BackendPtr cuda;

  c10d::Backend& of(const at::Tensor& t) const { return t.is_cuda() ? *cuda : *cpu; }
};
struct Work {
  c10::intrusive_ptr<c10d::Work> work;
  std::vector<at::Tensor> tensors;
  std::vector<std::vector<at::Tensor>> gathered;
};

// static intrusive_ptr<Options> ProcessGroupGloo::Options::create_default(milliseconds)
static const char* const kGlooOptions =
    "_ZN4c10d16ProcessGroupGloo7Options14create_defaultENSt6chrono8durationIlSt5ratioILl1ELl1000EEEE";
// ProcessGroupGloo::ProcessGroupGloo(const intrusive_ptr<Store>&, int, int, intrusive_ptr<Options>)
static const char* const kGloo =
    "_ZN4c10d16ProcessGroupGlooC1ERKN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_"
    "typeIS3_EEEEiiNS2_INS0_7OptionsENS5_ISA_EEEE";
// ProcessGroupNCCL::Options::Options(bool)
static const char* const kNcclOptions = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
// ProcessGroupNCCL::ProcessGroupNCCL(intrusive_ptr<Store>, int, int, intrusive_ptr<Options>)
static const char* const kNccl =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_"
    "typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE";

template <typename Function>
static Function symbol(const char* name) {
  void* address = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(address, "the libtorch loaded here lacks the symbol ", name, ": is it 2.11, and loaded?");
  return reinterpret_cast<Function>(address);
}

// Room for objects whose headers we lack. In 2.11.0 ProcessGroupGloo takes 0x1e8 bytes (its deleting destructor says
// so) and ProcessGroupNCCL a few thousand; the destructors release through plain operator delete.
constexpr size_t kGlooBytes = 4096, kNcclOptionsBytes = 4096, kNcclBytes = 65536;

template <typename Construct>
static void* constructed(size_t bytes, Construct&& construct) {
  void* memory = ::operator new(bytes);
  memset(memory, 0, bytes);
  try {
    construct(memory);
  } catch (...) {
    ::operator delete(memory);
    throw;
  }
  return memory;
}

static BackendPtr make_gloo(const StorePtr& store, int rank, int world, milliseconds timeout) {
  auto make_options = symbol<OptionsPtr (*)(milliseconds)>(kGlooOptions);
  auto construct = symbol<void (*)(void*, const StorePtr&, int, int, OptionsPtr)>(kGloo);
  OptionsPtr options = make_options(timeout);
  void* made = constructed(kGlooBytes, [&](void* memory) { construct(memory, store, rank, world, options); });
  return BackendPtr::unsafe_steal_from_new(static_cast<c10d::Backend*>(made));
}

static BackendPtr make_nccl(const StorePtr& store, int rank, int world, milliseconds timeout) {
  auto construct_options = symbol<void (*)(void*, bool)>(kNcclOptions);
  auto construct = symbol<void (*)(void*, StorePtr, int, int, OptionsPtr)>(kNccl);
  // Without it NCCL's watchdog ends the process at a timeout instead of letting wait() throw. Read by the constructor.
  setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
  void* made_options = constructed(kNcclOptionsBytes, [&](void* memory) { construct_options(memory, false); });
  OptionsPtr options = OptionsPtr::unsafe_steal_from_new(static_cast<c10d::Backend::Options*>(made_options));
  options->timeout = timeout;
  void* made = constructed(kNcclBytes, [&](void* memory) { construct(memory, store, rank, world, options); });
  return BackendPtr::unsafe_steal_from_new(static_cast<c10d::Backend*>(made));
}

extern "C" {

// Names the first mangled constructor that the loaded libraries lack; nullptr when all are there.
const char* collective_missing_symbol(int nccl) {
  for (const char* name : {kGlooOptions, kGloo})
    if (!dlsym(RTLD_DEFAULT, name)) return name;
  if (nccl)
    for (const char* name : {kNcclOptions, kNccl})
      if (!dlsym(RTLD_DEFAULT, name)) return name;
  return nullptr;
}

// Gloo serves CPU tensors always, and CUDA tensors unless nccl is asked for (so ranks may share one GPU).
char* collective_group_open(Store* store, const char* prefix, int nccl, int rank, int world, int64_t timeout_ms,
                            Group** out) {
  return guarded([&] {
    milliseconds timeout(timeout_ms);
    std::string keys(prefix);
    auto group = std::make_unique<Group>();
    StorePtr gloo_store = c10::make_intrusive<c10d::PrefixStore>(keys + "gloo", store->tcp);
    group->cpu = make_gloo(gloo_store, rank, world, timeout);
    group->cuda = group->cpu;
    if (nccl) {
      StorePtr nccl_store = c10::make_intrusive<c10d::PrefixStore>(keys + "nccl", store->tcp);
      group->cuda = make_nccl(nccl_store, rank, world, timeout);
    }
    *out = group.release();
  });
}

void collective_group_close(Group* group) { delete group; }

// op: c10d::ReduceOp::RedOpType
char* collective_all_reduce(Group* group, at::Tensor* tensor, int op, Work** out) {
  return guarded([&] {
    auto work = std::make_unique<Work>();
    work->tensors = {*tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp(static_cast<c10d::ReduceOp::RedOpType>(op));
    work->work = group->of(*tensor).allreduce(work->tensors, options);
    *out = work.release();
  });
}

char* collective_broadcast(Group* group, at::Tensor* tensor, int root, Work** out) {
  return guarded([&] {
    auto work = std::make_unique<Work>();
    work->tensors = {*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    work->work = group->of(*tensor).broadcast(work->tensors, options);
    *out = work.release();
  });
}

// outputs: one tensor a rank, allocated in the shape of the input
char* collective_all_gather(Group* group, at::Tensor* const* outputs, size_t count, at::Tensor* input, Work** out) {
  return guarded([&] {
    auto work = std::make_unique<Work>();
    work->tensors = {*input};
    work->gathered.emplace_back();
    for (size_t i = 0; i < count; i++) work->gathered[0].push_back(*outputs[i]);
    work->work = group->of(*input).allgather(work->gathered, work->tensors);
    *out = work.release();
  });
}

// A barrier of the processes, not of their CUDA streams: always Gloo's, so no device must be guessed.
char* collective_barrier(Group* group, Work** out) {
  return guarded([&] {
    auto work = std::make_unique<Work>();
    work->work = group->cpu->barrier();
    *out = work.release();
  });
}

char* collective_work_wait(Work* work) {
  return guarded([&] { work->work->wait(); });
}

void collective_work_free(Work* work) { delete work; }
}
