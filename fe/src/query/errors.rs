//! The query engine's errors as ours: an error that a scan raised comes back as it was, a planning error keeps the
//! engine's sentence without its prefixes.

use crate::error::{number, syntax};
use coffer_stdx::{Error, ErrorKind};
use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

/// How the engine complains of a subquery where it runs none.
const SUBQUERY_OF_VALUES: &str = "ScalarSubqueryExpr evaluated before";
/// How it complains of an expression that it does not know, with all that was parsed.
const UNKNOWN_EXPRESSION: &str = "Unsupported ast node in sqltorel";

/// One of ours, to travel through the engine.
pub(crate) fn to_engine(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Whatever the engine returns.
pub(crate) fn from_engine(error: &DataFusionError) -> Error {
    let root = error.find_root();
    if root.message().contains(SUBQUERY_OF_VALUES) {
        return Error::not_supported(
            "a subquery is not supported in VALUES: write SELECT, as in INSERT INTO t SELECT ...",
        );
    }
    match root {
        DataFusionError::External(cause) => {
            cause.downcast_ref::<Error>().cloned().unwrap_or_else(|| Error::invalid(clean(&cause.to_string())))
        }
        DataFusionError::ArrowError(cause, _) => from_arrow(cause),
        DataFusionError::SQL(cause, _) => syntax(clean(&cause.to_string())),
        DataFusionError::SchemaError(cause, _) => match cause.as_ref() {
            SchemaError::FieldNotFound { field, .. } => {
                Error::not_found(format!("Unknown column '{}' in 'field list'", field.flat_name()))
                    .numbered(number::UNKNOWN_COLUMN)
            }
            other => Error::invalid(clean(&other.to_string())),
        },
        DataFusionError::NotImplemented(text) if clean(text).starts_with(UNKNOWN_EXPRESSION) => {
            // What follows is the parsed statement; its first word names the expression.
            let text = clean(text);
            let node = text.trim_start_matches(UNKNOWN_EXPRESSION).trim_start_matches([':', ' ']);
            let name: String = node.chars().take_while(char::is_ascii_alphanumeric).collect();
            Error::not_supported(format!("the expression {name} is not supported"))
        }
        DataFusionError::NotImplemented(text) => Error::not_supported(format!("{} (not supported)", clean(text))),
        DataFusionError::ResourcesExhausted(text) => {
            Error::limit(format!("the query needs too much memory: {}", clean(text)))
        }
        DataFusionError::IoError(cause) => Error::new(ErrorKind::Unavailable, format!("query: {cause}")),
        DataFusionError::Internal(text) => Error::bug(format!("query: {}", clean(text))),
        DataFusionError::ExecutionJoin(cause) if cause.is_cancelled() => Error::cancelled("the query was cancelled"),
        DataFusionError::ExecutionJoin(cause) => Error::bug(format!("query: {cause}")),
        other => Error::invalid(clean(&other.message())),
    }
}

fn from_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(cause) => match cause.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => match cause.downcast_ref::<DataFusionError>() {
                Some(inner) => from_engine(inner),
                None => Error::invalid(clean(&cause.to_string())),
            },
        },
        ArrowError::MemoryError(text) => Error::limit(clean(text)),
        other => Error::invalid(clean(&other.to_string())),
    }
}

/// Prefixes that say in which part of the engine an error arose; of no use to who wrote the query.
const PREFIXES: [&str; 12] = [
    "Error during planning: ",
    "Execution error: ",
    "Optimizer rule failed: ",
    "This feature is not implemented: ",
    "Arrow error: ",
    "Cast error: ",
    "Invalid argument error: ",
    "Parser error: ",
    "Schema error: ",
    "External error: ",
    "SQL error: ",
    "type_coercion\ncaused by\n",
];

fn clean(text: &str) -> String {
    let mut text = text.trim();
    loop {
        let before = text;
        for prefix in PREFIXES {
            text = text.strip_prefix(prefix).unwrap_or(text);
        }
        if text == before {
            break;
        }
    }
    // A backtrace, when the engine was built with one, starts after a blank line.
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_errors_come_back_as_they_were() {
        let ours = Error::unavailable("backend h:1 is down");
        assert_eq!(from_engine(&to_engine(ours.clone())), ours);
        let wrapped = DataFusionError::Context("scan".to_owned(), Box::new(to_engine(ours.clone())));
        assert_eq!(from_engine(&wrapped), ours);
        let arrow = ArrowError::ExternalError(Box::new(to_engine(ours.clone())));
        assert_eq!(from_engine(&DataFusionError::ArrowError(Box::new(arrow), None)), ours);
    }

    #[test]
    fn prefixes_go_and_kinds_follow_the_cause() {
        let plan = DataFusionError::Plan("type_coercion\ncaused by\nError during planning: no.".to_owned());
        assert_eq!(from_engine(&plan), Error::invalid("no"));
        assert_eq!(from_engine(&DataFusionError::ResourcesExhausted("x".into())).kind(), ErrorKind::Limit);
        assert_eq!(from_engine(&DataFusionError::NotImplemented("y".into())).kind(), ErrorKind::NotSupported);
        assert_eq!(from_engine(&DataFusionError::Internal("z".into())).kind(), ErrorKind::Bug);
    }
}
