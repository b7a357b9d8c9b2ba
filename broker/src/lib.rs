//! The broker: the object store trait, served over gRPC.
