//! The MySQL wire protocol, server side; knows nothing of Coffer.
