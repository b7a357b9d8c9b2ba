//! What a backup looks like at rest, and the only code that writes or reads one.
