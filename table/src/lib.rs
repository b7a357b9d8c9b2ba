//! What a table is: column types, schema, partition ranges, bucket hashing, text and Arrow values.
