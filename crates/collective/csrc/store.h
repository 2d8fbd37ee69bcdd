// What Rust holds a pointer to as the rendezvous store.
#pragma once

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

struct Store {
  c10::intrusive_ptr<c10d::TCPStore> tcp;
};
