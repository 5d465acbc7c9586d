//! Compiles what a node's kernel is preloaded with: a library of its own, which becomes a part of the lab's program.

use std::{env, error::Error, path::PathBuf, process::Command};

const SOURCE: &str = "preload/xstate.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SOURCE}");
    let compiler = env::var_os("RUSTC").ok_or("cargo names no compiler")?;
    let library = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names no directory")?).join("xstate.so");
    let status = Command::new(compiler)
        .args(["--edition=2024", "--crate-type=cdylib", "--crate-name=xstate"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Clink-arg=-nostartfiles"])
        .arg("-o")
        .arg(&library)
        .arg(SOURCE)
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{SOURCE} does not compile").into()) }
}
