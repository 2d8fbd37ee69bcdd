//! Compiles the C ABI over c10d in csrc/ against the libtorch that torch-sys found.

use std::env;
use std::path::{Path, PathBuf};

const SOURCES: [&str; 3] = ["store.cpp", "group.cpp", "device.cpp"];

fn main() {
    for file in SOURCES.into_iter().chain(["guard.h", "store.h"]) {
        println!("cargo:rerun-if-changed=csrc/{file}");
    }
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let include = include_folder();
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(SOURCES.map(|file| Path::new("csrc").join(file)))
        .compile("collective_c10d");
    println!("cargo:rustc-link-lib=dylib=torch_cpu");
    println!("cargo:rustc-link-lib=dylib=c10");
}

/// torch-sys publishes where libtorch's libraries lie (`links = "tch"`); its direct dependents see it.
fn include_folder() -> PathBuf {
    let from_torch_sys = env::var_os("DEP_TCH_LIBTORCH_LIB").map(|lib| PathBuf::from(lib).join("../include"));
    let from_libtorch = env::var_os("LIBTORCH").map(|root| PathBuf::from(root).join("include"));
    let candidates = [from_torch_sys, from_libtorch];
    let marker = "torch/csrc/distributed/c10d/TCPStore.hpp";
    let found = candidates.into_iter().flatten().find(|folder| folder.join(marker).is_file());
    found.unwrap_or_else(|| panic!("libtorch's headers ({marker}) are missing: run `make setup`, or set LIBTORCH"))
}
