// The rendezvous store: c10d's TCPStore, a key-value server in one process and clients in all.
#include "store.h"

#include "guard.h"

#include <optional>
#include <vector>

using std::chrono::milliseconds;

extern "C" {

void collective_free(void* p) { free(p); }

// listen_fd: an already listening socket for the server to adopt, or -1.
// Nobody is waited for here: the ranks announce themselves under keys, so that the missing ones can be named.
char* collective_store_open(const char* host, uint16_t port, int serves, int listen_fd, int64_t timeout_ms,
                            Store** out) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves != 0;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    if (listen_fd >= 0) options.masterListenFd = listen_fd;
    *out = new Store{c10::make_intrusive<c10d::TCPStore>(std::string(host), options)};
  });
}

void collective_store_close(Store* store) { delete store; }

char* collective_store_set(Store* store, const char* key, const char* value) {
  return guarded([&] {
    std::string text(value);
    store->tcp->set(key, std::vector<uint8_t>(text.begin(), text.end()));
  });
}

// Waits for the key; *out is malloc'd.
char* collective_store_get(Store* store, const char* key, char** out) {
  return guarded([&] {
    auto bytes = store->tcp->get(key);
    *out = strdup(std::string(bytes.begin(), bytes.end()).c_str());
  });
}

char* collective_store_add(Store* store, const char* key, int64_t amount, int64_t* out) {
  return guarded([&] { *out = store->tcp->add(key, amount); });
}

char* collective_store_has(Store* store, const char* key, int* out) {
  return guarded([&] { *out = store->tcp->check({key}); });
}

// Waits until prefix + "0" … prefix + "<count - 1>" all exist.
char* collective_store_wait(Store* store, const char* prefix, size_t count, int64_t timeout_ms) {
  return guarded([&] {
    std::vector<std::string> keys;
    for (size_t i = 0; i < count; i++) keys.push_back(prefix + std::to_string(i));
    store->tcp->wait(keys, milliseconds(timeout_ms));
  });
}
}
