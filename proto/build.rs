//! Compiles the contracts with protox, so that building needs no protoc.

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let mut contracts: Vec<_> = fs::read_dir(Path::new("hawser/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    contracts.sort();
    println!("cargo:rerun-if-changed=hawser/v1");

    let descriptors = protox::compile(&contracts, ["."])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .client_mod_attribute(".", "#[cfg(feature = \"services\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"services\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
