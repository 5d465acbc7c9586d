//! Compiles what a node's kernel is preloaded with: a library of its own, which becomes a part of the lab's program.
//! Empty for processors that user-mode-linux does not run on.

use std::{
    env,
    error::Error,
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
    process::Command,
};

const SOURCE: &str = "preload/xstate.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SOURCE}");
    let named = |variable: &str| env::var_os(variable).ok_or(format!("cargo does not set {variable}"));
    let library = PathBuf::from(named("OUT_DIR")?).join("xstate.so");
    if named("CARGO_CFG_TARGET_ARCH")? != "x86_64" {
        return Ok(fs::write(library, "")?);
    }
    let mut compiler = Command::new(named("RUSTC")?);
    compiler.arg("--target").arg(named("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        compiler.arg("-C").arg([OsStr::new("linker="), &linker].into_iter().collect::<OsString>());
    }
    let status = compiler
        .args(["--edition=2024", "--crate-type=cdylib", "--crate-name=xstate"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Clink-arg=-nostartfiles"])
        .arg("-o")
        .arg(&library)
        .arg(SOURCE)
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{SOURCE} does not compile").into()) }
}
