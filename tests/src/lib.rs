//! The cluster harness and the end-to-end tests.
