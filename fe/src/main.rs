//! Starts the fe.

fn main() {}
