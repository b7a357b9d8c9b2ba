//! The backend: tablet files, loads, scans, snapshots and their transfer.
