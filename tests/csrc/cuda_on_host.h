// What csrc/cuda/device.cuh gives to kernels, on the CPU: a block is a set of threads that meet at barriers.
//
// Blocks run one after the other.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define LAMI_DEVICE inline
#define LAMI_CUDA_OPS(m) STABLE_TORCH_LIBRARY_IMPL(lami_cuda_on_host, CPU, m)

namespace lami::cuda {

struct Team {
  explicit Team(int threads) : slots(threads) { pthread_barrier_init(&barrier, nullptr, threads); }
  ~Team() { pthread_barrier_destroy(&barrier); }
  void wait() { pthread_barrier_wait(&barrier); }

  pthread_barrier_t barrier;
  std::vector<std::array<char, 8>> slots;
};

struct Block {
  int thread;
  int index;
  Team* team;

  void sync() const { team->wait(); }

  template <class T>
  T from_lane(T value, int lane, int width) const {
    static_assert(sizeof(T) <= 8);
    std::memcpy(team->slots[thread].data(), &value, sizeof(T));
    team->wait();
    T result;
    std::memcpy(&result, team->slots[thread / width * width + lane].data(), sizeof(T));
    team->wait();
    return result;
  }
};

template <class T>
void atomic_add(T* sum, T value) {
  std::atomic_ref<T>(*sum).fetch_add(value);
}

template <class T>
void atomic_max(T* most, T value) {
  std::atomic_ref<T> shared(*most);
  T seen = shared.load();
  while (!(value <= seen) && !shared.compare_exchange_weak(seen, value)) {
  }
}

class Stream {
 public:
  explicit Stream(const torch::stable::Tensor&) {}

  template <class Kernel>
  void launch(const Kernel& kernel, int64_t blocks) const {
    Team team(Kernel::kThreads);
    const auto shared = std::make_unique<typename Kernel::Shared>();
    std::vector<std::thread> threads;
    for (int thread = 0; thread < Kernel::kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int index = 0; index < blocks; ++index) {
          kernel(Block{thread, index, &team}, *shared);
          team.wait();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

}  // namespace lami::cuda
