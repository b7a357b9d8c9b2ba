//! SQL text to [`ast::Statement`]: a front parser for the statements operators know, on top of sqlparser's tokenizer,
//! falling through to sqlparser for queries.

#[allow(missing_docs, reason = "field names say what the grammar in the variant's comment shows")]
pub mod ast;
