//! cofferctl.

fn main() {}
