//! One binary: parity with other people's libraries, end-to-end runs, drills and the rules of the house.

mod collective;
mod commands;
mod dataloader;
mod datasets;
mod editor;
mod editor_serve;
mod evaluator;
mod fetching;
mod fixtures;
mod folders;
#[path = "../../dataloader/src/fuzz.rs"]
mod fuzz;
mod house;
mod hub;
mod method;
mod models;
mod models_fuzz;
mod pairs;
mod parity;
mod schemas;
mod sharding;
mod stores;
mod threads;
mod trainer;
