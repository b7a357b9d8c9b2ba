//! Compiles the .proto files in pure Rust; `bytes` fields become `bytes::Bytes`, so that payloads are not copied.

const FILES: [&str; 7] = ["types", "agent", "frontend", "frontends", "tablet", "broker", "options"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = FILES.map(|name| format!("proto/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
