//! The object store trait, its backends, wrappers and contract suite.
