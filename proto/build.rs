//! Compiles the .proto files with protox: no protoc binary is needed.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<_> = std::fs::read_dir("weir/v1")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    println!("cargo:rerun-if-changed=weir/v1");
    let descriptors = protox::compile(&files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".weir.v1.BatchData")
        .bytes(".weir.v1.OperatorState")
        .bytes(".weir.v1.InFlight")
        .bytes(".weir.v1.Expr")
        .bytes(".weir.v1.RaftStepRequest")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
