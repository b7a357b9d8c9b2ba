//! JSON values of a document, one level at a time: numbers stay the text that they are, so that no digit is lost, and
//! what is nested is cut out without being read further than to its end.

use coffer_stdx::{Error, Result};
use std::borrow::Cow;

/// Deepest nesting.
const MAX_DEPTH: usize = 128;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// A number, `true` or `false`, as written.
    Plain(&'a str),
    /// A string, without escapes.
    Text(Cow<'a, str>),
    /// An object, as written.
    Object(&'a str),
    /// An array, as written.
    Array(&'a str),
}

impl Value<'_> {
    /// The form a load file would have; `None` for NULL. Objects and arrays are their JSON.
    pub fn field(&self) -> Option<&[u8]> {
        match self {
            Value::Null => None,
            Value::Plain(text) | Value::Object(text) | Value::Array(text) => Some(text.as_bytes()),
            Value::Text(text) => Some(text.as_bytes()),
        }
    }
}

/// The one value of a document.
pub fn document(text: &str) -> Result<Value<'_>> {
    let mut scanner = Scanner { text, at: 0 };
    let value = scanner.value()?;
    scanner.end()?;
    Ok(value)
}

/// Names and values of an object.
pub fn members(object: &str) -> Result<Vec<(Cow<'_, str>, Value<'_>)>> {
    let mut scanner = Scanner { text: object, at: 0 };
    let mut found = Vec::new();
    scanner.need(b'{')?;
    if !scanner.eat(b'}') {
        loop {
            let name = scanner.string()?;
            scanner.need(b':')?;
            found.push((name, scanner.value()?));
            if !scanner.eat(b',') {
                scanner.need(b'}')?;
                break;
            }
        }
    }
    scanner.end()?;
    Ok(found)
}

/// The values of an array.
pub fn elements(array: &str) -> Result<Vec<Value<'_>>> {
    let mut scanner = Scanner { text: array, at: 0 };
    let mut found = Vec::new();
    scanner.need(b'[')?;
    if !scanner.eat(b']') {
        loop {
            found.push(scanner.value()?);
            if !scanner.eat(b',') {
                scanner.need(b']')?;
                break;
            }
        }
    }
    scanner.end()?;
    Ok(found)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn wrong(&self, expected: &str) -> Error {
        Error::invalid(format!("not JSON: {expected} expected at byte {}", self.at))
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, byte: u8) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.wrong(&format!("'{}'", byte as char))) }
    }

    fn end(&mut self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.wrong("the end")) }
    }

    fn value(&mut self) -> Result<Value<'a>> {
        let Some(first) = self.peek() else { return Err(self.wrong("a value")) };
        let from = self.at;
        match first {
            b'"' => self.string().map(Value::Text),
            b'{' | b'[' => {
                self.skip_nested()?;
                let text = &self.text[from..self.at];
                Ok(if first == b'{' { Value::Object(text) } else { Value::Array(text) })
            }
            _ => {
                let rest = &self.text.as_bytes()[from..];
                let plain = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                self.at += rest.iter().take_while(plain).count();
                let text = &self.text[from..self.at];
                match text {
                    "null" => Ok(Value::Null),
                    "true" | "false" => Ok(Value::Plain(text)),
                    _ if is_number(text.as_bytes()) => Ok(Value::Plain(text)),
                    _ => {
                        self.at = from;
                        Err(self.wrong("a value"))
                    }
                }
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.need(b'"')?;
        let (from, mut copied, mut made) = (self.at, self.at, String::new());
        loop {
            match self.text.as_bytes().get(self.at) {
                None | Some(0..=31) => return Err(self.wrong("a closing '\"'")),
                Some(b'"') => {
                    self.at += 1;
                    let last = &self.text[copied..self.at - 1];
                    if copied == from {
                        return Ok(Cow::Borrowed(last));
                    }
                    made.push_str(last);
                    return Ok(Cow::Owned(made));
                }
                Some(b'\\') => {
                    made.push_str(&self.text[copied..self.at]);
                    made.push(self.escape()?);
                    copied = self.at;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// The character of an escape that begins here.
    fn escape(&mut self) -> Result<char> {
        let kind = self.text.as_bytes().get(self.at + 1).copied().unwrap_or_default();
        self.at += 2;
        Ok(match kind {
            b'"' | b'\\' | b'/' => kind as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    let second = self.hex()?;
                    0x1_0000 + ((first - 0xd800) << 10) + second.wrapping_sub(0xdc00) % 0x400
                } else {
                    first
                };
                // Half a character stands for none.
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(self.wrong("an escape")),
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or_else(|| self.wrong("four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }

    /// Go behind an object or array. What is in it is read when it is wanted.
    fn skip_nested(&mut self) -> Result<()> {
        let mut open = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.wrong("a closing bracket")),
                Some(b'"') => drop(self.string()?),
                Some(byte @ (b'{' | b'[')) => {
                    if open.len() == MAX_DEPTH {
                        return Err(Error::limit(format!("JSON is nested more than {MAX_DEPTH} levels deep")));
                    }
                    open.push(if byte == b'{' { b'}' } else { b']' });
                    self.at += 1;
                }
                Some(byte @ (b'}' | b']')) => {
                    if open.pop() != Some(byte) {
                        return Err(self.wrong("another bracket"));
                    }
                    self.at += 1;
                    if open.is_empty() {
                        return Ok(());
                    }
                }
                Some(_) => self.at += self.text[self.at..].chars().next().map_or(1, char::len_utf8),
            }
        }
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let count = digits(exponent);
        if count == 0 {
            return false;
        }
        rest = &exponent[count..];
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_keep_their_digits_and_lose_their_escapes() {
        let found =
            members(r#" {"a": 1.50, "b":"x\n\u00e9\ud83d\ude00\/", "c": [1, {"d": "]"}], "é": null, "t":true} "#);
        let found: Vec<(String, Value<'_>)> =
            found.unwrap().into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
        let wanted = [
            ("a", Value::Plain("1.50")),
            ("b", Value::Text("x\né😀/".into())),
            ("c", Value::Array(r#"[1, {"d": "]"}]"#)),
            ("é", Value::Null),
            ("t", Value::Plain("true")),
        ];
        assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(elements("[ ]").unwrap(), []);
        assert_eq!(elements("[1, \"\\ud800\"]").unwrap()[1], Value::Text("\u{fffd}".into()));
        assert_eq!(document(" -0.5e+3 ").unwrap(), Value::Plain("-0.5e+3"));
        assert_eq!(document("null").unwrap().field(), None);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in
            ["", "nul", "01", "1.", "+1", "1e", "\"a", "\"\\x\"", "\"\\u12\"", "{\"a\":1]", "[", "1 2", "\"\n\""]
        {
            assert!(document(text).is_err(), "{text}");
        }
        for text in ["{", "{a:1}", "{\"a\" 1}", "{\"a\":1,}", "[]"] {
            assert!(members(text).is_err(), "{text}");
        }
        assert!(elements("[1 2]").is_err() && elements("{}").is_err());
        let deep = "[".repeat(MAX_DEPTH + 1);
        assert!(document(&deep).unwrap_err().message().contains("levels deep"));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "\\PC{0,6}".prop_map(serde_json::Value::from),
            "[\"\\\\\n\t\u{1}]{0,4}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[a-c\"é]{0,3}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same value, level by level.
    fn same(found: &Value<'_>, wanted: &serde_json::Value) -> bool {
        match (found, wanted) {
            (Value::Null, serde_json::Value::Null) => true,
            (Value::Plain(text), serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
                let wanted = wanted.to_string();
                *text == wanted.as_str()
            }
            (Value::Text(text), serde_json::Value::String(wanted)) => text == wanted,
            (Value::Array(text), serde_json::Value::Array(wanted)) => {
                let found = elements(text).unwrap();
                found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| same(found, wanted))
            }
            (Value::Object(text), serde_json::Value::Object(wanted)) => {
                let found = members(text).unwrap();
                found.len() == wanted.len() && found.iter().all(|(name, value)| same(value, &wanted[name.as_ref()]))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn every_document_reads_as_the_library_says(json in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&json).unwrap() } else { json.to_string() };
            prop_assert!(same(&document(&text).unwrap(), &json), "{text}");
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}\",:\\\\u0-9ad. é-]{0,30}") {
            let _ = (document(&text), members(&text), elements(&text));
        }
    }
}
