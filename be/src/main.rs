//! Starts the be.

fn main() {}
