//! Hands the queue module BullMQ's own Lua scripts.
//!
//! The scripts for adding jobs are files of the official crate, which runs them but does not export
//! them. Cargo knows where the crate's sources lie, so the build reads them there: the text and its
//! SHA-1 are always those of the version in Cargo.lock, and nothing is kept twice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SCRIPTS: [&str; 3] = ["addStandardJob-9", "addDelayedJob-6", "addPrioritizedJob-9"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let commands = bullmq_sources().join("src/commands");
    for script in SCRIPTS {
        let from = commands.join(script).with_extension("lua");
        println!("cargo::rerun-if-changed={}", from.display());
        fs::copy(&from, out.join(script).with_extension("lua"))
            .unwrap_or_else(|error| panic!("bullmq-official has no script {}: {error}", from.display()));
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
}

/// The folder of the `bullmq-official` package that this build links.
fn bullmq_sources() -> PathBuf {
    // Cargo describes the whole workspace or nothing, also what only tests need; a build of the program alone has
    // not downloaded that. So the network is asked where the cache does not suffice.
    let metadata = metadata(&["--offline"]).or_else(|_| metadata(&[]));
    let metadata = metadata.unwrap_or_else(|error| panic!("cargo metadata failed: {error}"));
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "bullmq-official")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("bullmq-official is among the dependencies");
    Path::new(manifest).parent().expect("a manifest lies in a folder").to_owned()
}

/// What cargo knows of the packages in Cargo.lock, or what it says against that.
fn metadata(options: &[&str]) -> Result<serde_json::Value, String> {
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let manifest = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .join("Cargo.toml");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target])
        .args(options)
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .expect("cargo metadata runs");
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).expect("cargo writes JSON")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
