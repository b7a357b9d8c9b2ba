//! What headers say in a small language: names, values and signs, for `where` and `columns`. Pure.

use coffer_stdx::{Error, Result};
use coffer_table::{Comparison, Condition, Predicate};

/// Words that are no names.
const RESERVED: [&str; 10] = ["and", "or", "not", "in", "is", "null", "between", "like", "true", "false"];

/// The rest of a header.
#[derive(Debug)]
pub struct Words<'a> {
    header: &'static str,
    text: &'a str,
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// The value of a header.
    pub fn new(header: &'static str, text: &'a str) -> Words<'a> {
        Words { header, text, rest: text.trim() }
    }

    /// Whether nothing is left.
    pub fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Take a sign if it is next.
    pub fn eat_sign(&mut self, sign: &str) -> bool {
        let after = self.rest.strip_prefix(sign);
        self.rest = after.map_or(self.rest, str::trim_start);
        after.is_some()
    }

    /// Take a word if it is next, in any case.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let (bare, after) = self.bare();
        let found = bare.eq_ignore_ascii_case(word);
        if found {
            self.rest = after;
        }
        found
    }

    /// A name, perhaps in backticks.
    pub fn name(&mut self) -> Result<String> {
        if let Some((name, after)) = self.rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            let name = name.trim();
            if name.is_empty() {
                return Err(self.unexpected("a name"));
            }
            self.rest = after.trim_start();
            return Ok(name.to_owned());
        }
        let (bare, after) = self.bare();
        if bare.is_empty() || RESERVED.iter().any(|word| word.eq_ignore_ascii_case(bare)) {
            return Err(self.unexpected("a name"));
        }
        self.rest = after;
        Ok(bare.to_owned())
    }

    /// A quoted text, a number, TRUE or FALSE, in the form of a load file.
    pub fn value(&mut self) -> Result<String> {
        match self.maybe_value()? {
            Some(value) => Ok(value),
            None => Err(self.unexpected("a value")),
        }
    }

    /// As [`Words::value`]; `None` when something else is next.
    pub fn maybe_value(&mut self) -> Result<Option<String>> {
        if let Some(quote) = self.rest.chars().next().filter(|first| matches!(first, '\'' | '"')) {
            return self.quoted(quote).map(Some);
        }
        let (bare, after) = self.bare();
        let truth = ["true", "false"].into_iter().find(|word| word.eq_ignore_ascii_case(bare));
        let number = || bare.bytes().all(|byte| b"0123456789.eE+-".contains(&byte)) && bare.parse::<f64>().is_ok();
        let found = truth.or_else(|| number().then_some(bare));
        if found.is_some() {
            self.rest = after;
        }
        Ok(found.map(str::to_owned))
    }

    /// What cannot be understood here.
    pub fn unexpected(&self, wanted: &str) -> Error {
        let place = if self.at_end() { "at its end".to_owned() } else { format!("at '{}'", self.rest) };
        Error::not_supported(format!("header '{}: {}': {wanted} expected {place}", self.header, self.text))
    }

    /// The characters up to a space or sign, and what follows them.
    fn bare(&self) -> (&'a str, &'a str) {
        let ends = |c: char| c.is_whitespace() || ",=()<>!'\"`*/%;".contains(c);
        let (bare, after) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        (bare, after.trim_start())
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, next)) = chars.next() {
            match next {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                _ if next == quote && chars.peek().is_some_and(|(_, after)| *after == quote) => {
                    chars.next();
                    text.push(quote);
                }
                _ if next == quote => {
                    self.rest = self.rest[at + next.len_utf8()..].trim_start();
                    return Ok(text);
                }
                _ => text.push(next),
            }
        }
        Err(self.unexpected("a closing quote"))
    }
}

/// The conditions of `where`: comparisons of columns with values, joined by AND.
pub fn conditions(text: &str) -> Result<Predicate> {
    let mut words = Words::new("where", text);
    let mut conditions = Vec::new();
    loop {
        let column = words.name()?;
        if words.eat_word("between") {
            let mut bound = |words: &mut Words<'_>, comparison| {
                let values = vec![words.value()?];
                conditions.push(Condition { column: column.clone(), comparison, values });
                Ok::<_, Error>(())
            };
            bound(&mut words, Comparison::GreaterOrEqual)?;
            if !words.eat_word("and") {
                return Err(words.unexpected("AND"));
            }
            bound(&mut words, Comparison::LessOrEqual)?;
        } else {
            let (comparison, values) = comparison(&mut words)?;
            conditions.push(Condition { column, comparison, values });
        }
        if !words.eat_word("and") {
            break;
        }
    }
    if words.at_end() { Ok(Predicate { conditions }) } else { Err(words.unexpected("AND or the end")) }
}

fn comparison(words: &mut Words<'_>) -> Result<(Comparison, Vec<String>)> {
    // Longer signs first.
    let signs = [
        ("<>", Comparison::NotEqual),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("=", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    if let Some((_, comparison)) = signs.into_iter().find(|(sign, _)| words.eat_sign(sign)) {
        return Ok((comparison, vec![words.value()?]));
    }
    if words.eat_word("is") {
        let comparison = if words.eat_word("not") { Comparison::IsNotNull } else { Comparison::IsNull };
        return if words.eat_word("null") { Ok((comparison, Vec::new())) } else { Err(words.unexpected("NULL")) };
    }
    let comparison = if words.eat_word("not") { Comparison::NotIn } else { Comparison::In };
    if !words.eat_word("in") {
        return Err(words.unexpected("a comparison"));
    }
    if !words.eat_sign("(") {
        return Err(words.unexpected("'('"));
    }
    let mut values = vec![words.value()?];
    while words.eat_sign(",") {
        values.push(words.value()?);
    }
    if words.eat_sign(")") { Ok((comparison, values)) } else { Err(words.unexpected("')'")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    #[test]
    fn conditions_of_every_kind() {
        let text = "a = 1 AND `b c` <> 'it''s' and d>=-1.5e3 and e IN (\"x\", 2) and f not in(3) and g is null \
                    and h IS NOT NULL and i between '2026-01-01' and \"2026\\\\12\" and j != TRUE and k<2 and l<=3 and m>4";
        let found = conditions(text).unwrap().conditions;
        let shown: Vec<String> =
            found.iter().map(|c| format!("{} {:?} {}", c.column, c.comparison, c.values.join("|"))).collect();
        assert_eq!(
            shown,
            [
                "a Equal 1",
                "b c NotEqual it's",
                "d GreaterOrEqual -1.5e3",
                "e In x|2",
                "f NotIn 3",
                "g IsNull ",
                "h IsNotNull ",
                "i GreaterOrEqual 2026-01-01",
                "i LessOrEqual 2026\\12",
                "j NotEqual true",
                "k Less 2",
                "l LessOrEqual 3",
                "m Greater 4",
            ]
        );
    }

    #[test]
    fn what_is_no_such_condition_is_refused_with_its_place() {
        for (text, part) in [
            ("", "a name expected at its end"),
            ("a", "a comparison expected at its end"),
            ("a = 1 or b = 2", "AND or the end expected at 'or b = 2'"),
            ("a = b", "a value expected at 'b'"),
            ("a + 1 = 2", "a comparison expected at '+ 1 = 2'"),
            ("(a = 1)", "a name expected at '(a = 1)'"),
            ("length(a) = 1", "a comparison expected at '(a) = 1'"),
            ("a = 'x", "a closing quote expected"),
            ("a = 'x\\", "a closing quote expected"),
            ("a in ()", "a value expected at ')'"),
            ("a in (1", "')' expected"),
            ("a in 1", "'(' expected"),
            ("a is 1", "NULL expected"),
            ("a between 1, 2", "AND expected"),
            ("a = 1 b", "AND or the end expected at 'b'"),
            ("a = 1 and", "a name expected at its end"),
            ("null = 1", "a name expected"),
            ("`` = 1", "a name expected"),
            ("a like 'x%'", "a comparison expected at 'like"),
            ("a = nan", "a value expected"),
        ] {
            let error = conditions(text).unwrap_err();
            assert!(error.message().contains(part), "{text}: {error}");
            assert_eq!(error.kind(), ErrorKind::NotSupported);
        }
    }
}
