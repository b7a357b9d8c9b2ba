//! `?` placeholders of prepared statements: how many, and the text with values in their place.
//!
//! A session executes text; so a prepared statement is its text until values are known, and then the text with each
//! value written as a literal that cannot end early whatever it holds.

use crate::error::{ServerError, TOO_MANY_PLACEHOLDERS, WRONG_ARGUMENTS};
use crate::lex::{Lexer, Piece};
use crate::value::Value;

/// The number of placeholders in `sql`.
pub fn count(sql: &str) -> Result<u16, ServerError> {
    u16::try_from(places(sql).count())
        .map_err(|_| TOO_MANY_PLACEHOLDERS.error("Prepared statement contains too many placeholders"))
}

/// `sql` with each placeholder replaced by its value.
pub fn substitute(sql: &str, values: &[Value]) -> Result<String, ServerError> {
    let wrong = || WRONG_ARGUMENTS.error("Incorrect arguments to EXECUTE: as many values are needed as placeholders");
    let mut out = String::with_capacity(sql.len() + values.len() * 8);
    let (mut at, mut values) = (0, values.iter());
    for place in places(sql) {
        let literal = values.next().ok_or_else(wrong)?.literal().ok_or_else(|| {
            WRONG_ARGUMENTS.error("Incorrect arguments to EXECUTE: not-a-number and infinity have no literal")
        })?;
        out.push_str(&sql[at..place]);
        out.push_str(&literal);
        at = place + 1;
    }
    if values.next().is_some() {
        return Err(wrong());
    }
    out.push_str(&sql[at..]);
    Ok(out)
}

/// Where the placeholders stand.
fn places(sql: &str) -> impl Iterator<Item = usize> + '_ {
    Lexer::new(sql).filter(|(piece, _)| *piece == Piece::Byte(b'?')).map(|(_, range)| range.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn placeholders_are_counted_outside_of_quotes_and_comments() {
        for (sql, expected) in [
            ("select ?", 1),
            ("select '?', \"?\", `?`, ? -- ?\n, ? /* ? */ # ?", 2),
            ("insert into t values (?,?),(?, ?)", 4),
            ("", 0),
        ] {
            assert_eq!(count(sql).unwrap(), expected, "{sql}");
        }
        assert_eq!(count(&"?".repeat(65_536)).unwrap_err().code, 1390);
    }

    #[test]
    fn values_take_the_places() {
        let values = [Value::Int(-1), Value::text("it's \\ ?"), Value::Null];
        assert_eq!(
            substitute("select 5-?, ?, '?' where x is ?", &values).unwrap(),
            "select 5- -1, 'it''s \\\\ ?', '?' where x is NULL"
        );
        assert_eq!(substitute("select 1", &[]).unwrap(), "select 1");
        assert_eq!(substitute("select ?", &[]).unwrap_err().code, 1210);
        assert_eq!(substitute("select 1", &values).unwrap_err().code, 1210);
        assert_eq!(substitute("select ?", &[Value::Double(f64::NAN)]).unwrap_err().code, 1210);
    }

    proptest! {
        /// Whatever a text value holds, it stays one quoted piece and nothing follows it.
        #[test]
        fn a_value_cannot_leave_its_quotes(text in r#"([a-z;?'"`\\#*/! \n-]|\PC|\x00){0,40}"#) {
            let sql = substitute("select ?;", &[Value::text(text)]).unwrap();
            let quoted = &sql["select ".len()..sql.len() - 1];
            prop_assert!(quoted.starts_with('\'') && quoted.ends_with('\''));
            prop_assert_eq!(crate::split::statements(&sql).len(), 1);
            prop_assert_eq!(count(&sql).unwrap(), 0);
        }

        #[test]
        fn no_text_panics(sql: String) {
            if let Ok(count) = count(&sql) {
                let values = vec![Value::Null; usize::from(count)];
                prop_assert!(substitute(&sql, &values).is_ok());
            }
        }
    }
}
