// How a C++ exception reaches Rust: every function of the ABI returns nullptr on success, otherwise a malloc'd
// message that collective_free releases.
#pragma once

#include <c10/util/Exception.h>
#include <torch/version.h>

#include <cstring>
#include <exception>
#include <string>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11,
              "the mangled names and object sizes in csrc were checked against torch 2.11 only");

inline char* failure(const std::string& message) { return strdup(message.c_str()); }

template <typename Body>
char* guarded(Body&& body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& e) {
    return failure(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return failure(e.what());
  } catch (...) {
    return failure("unknown C++ exception");
  }
}
