//! A small state for the tests of this folder.
