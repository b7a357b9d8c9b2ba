//! The frontend: SQL over MySQL, replicated metadata, job decisions.
