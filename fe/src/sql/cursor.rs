//! A place in the tokens of one statement, and the small readings every grammar is made of.
//!
//! Words compare without regard to case and only where they are not quoted. A reading either moves behind what it
//! read or fails with a syntax error; `eat` readings stay where they are when they do not match.

use super::ast::{ObjectName, Properties};
use super::grammar::Grammar;
use super::mask::secrets;
use crate::error::{Error, Result, syntax};
use coffer_stdx::secret::{MASK, is_secret_key};
use sqlparser::ast::Statement as Sql;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// The dialect of everything we read.
pub(super) static DIALECT: Grammar = Grammar;

/// Of a longer INSERT only this much is read here; the rows are for the query engine. Bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Stack for sqlparser; address space, used as far as a statement is deep.
const PARSER_STACK_BYTES: usize = 64 * 1024 * 1024;
/// Characters of the statement that a syntax error quotes.
const EXCERPT_CHARS: usize = 64;

/// Words that are no names unless quoted: with them, a forgotten name would be found far behind its place.
const RESERVED: [&str; 38] = [
    "ALTER",
    "AND",
    "AS",
    "BETWEEN",
    "BY",
    "CREATE",
    "DELETE",
    "DISTRIBUTED",
    "DROP",
    "EXCLUDE",
    "EXISTS",
    "FROM",
    "GROUP",
    "HAVING",
    "IN",
    "INSERT",
    "INTO",
    "IS",
    "JOIN",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "PARTITION",
    "PROPERTIES",
    "SELECT",
    "SET",
    "SHOW",
    "TABLE",
    "TO",
    "UNION",
    "UPDATE",
    "VALUES",
    "WHERE",
    "WITH",
];

/// See the module.
pub(super) struct Cursor<'a> {
    sql: &'a str,
    /// Without blanks and comments.
    tokens: Vec<TokenWithSpan>,
    at: usize,
    /// Whether `tokens` are those of the head only.
    cut: bool,
}

impl<'a> Cursor<'a> {
    /// Stand at the first token of `sql`.
    pub(super) fn new(sql: &'a str) -> Result<Cursor<'a>> {
        if sql.len() > HEAD_BYTES {
            let head = &sql[..sql.floor_char_boundary(HEAD_BYTES)];
            let mut tokens = Vec::new();
            // The head may end inside a string; the tokens before it are good.
            let _ = Tokenizer::new(&DIALECT, head).tokenize_with_location_into_buf(&mut tokens);
            let cursor = Cursor { sql, tokens: without_blanks(tokens), at: 0, cut: true };
            if cursor.is("INSERT") {
                return Ok(cursor);
            }
        }
        Cursor::whole(sql)
    }

    /// Stand at the first token of `sql`, all of which is read.
    fn whole(sql: &'a str) -> Result<Cursor<'a>> {
        if sql.len() > super::MAX_STATEMENT_BYTES {
            let limit = super::MAX_STATEMENT_BYTES;
            return Err(Error::limit(format!("the statement has {} bytes, more than the limit of {limit}", sql.len())));
        }
        let tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|error| {
            let offset = offset_of(sql, error.location);
            syntax_at(sql, offset, &lower_first(&error.message))
        })?;
        Ok(Cursor { sql, tokens: without_blanks(tokens), at: 0, cut: false })
    }

    /// Read a statement with sqlparser and look at it; the place does not move.
    ///
    /// This happens on a thread of its own: sqlparser descends by recursion, and what [`super::depth`] lets pass needs
    /// more stack than threads have. The tree is taken apart there as well.
    pub(super) fn with_statement(&self, look: fn(&Sql) -> Result<()>) -> Result<()> {
        self.check_cost()?;
        let read = || {
            let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(self.tokens.clone());
            let result = parser.parse_statement().and_then(|read| match parser.peek_token_ref().token {
                Token::EOF => Ok(read),
                _ => parser.expected_ref("end of statement", parser.peek_token_ref()),
            });
            look(&result.map_err(|error| self.foreign(&error.to_string()))?)
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("sql-parser".to_owned()).stack_size(PARSER_STACK_BYTES);
            match thread.spawn_scoped(scope, read) {
                Ok(running) => running.join().unwrap_or_else(|_| Err(Error::bug("the parser of queries panicked"))),
                Err(error) => Err(Error::limit(format!("no thread to read the query with: {error}"))),
            }
        })
    }

    /// Refuse what costs the query engine too much to read. The head of a long list of VALUES stands for all of it.
    pub(super) fn check_cost(&self) -> Result<()> {
        if self.cut && !self.is_one_of(&["VALUES", "VALUE"]) {
            return Cursor::whole(self.sql)?.check_cost();
        }
        super::depth::check(&self.tokens)
    }

    /// One of ours for an error of sqlparser, which tells its place at the end of the text.
    fn foreign(&self, text: &str) -> Error {
        let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
        let (text, offset) = match text.rsplit_once(" at Line: ") {
            Some((text, place)) => {
                let location = place
                    .split_once(", Column: ")
                    .and_then(|(line, column)| Some(Location::new(line.parse().ok()?, column.parse().ok()?)));
                (text, location.map_or(self.sql.len(), |location| offset_of(self.sql, location)))
            }
            None => (text, self.sql.len()),
        };
        syntax_at(self.sql, offset, &lower_first(text))
    }

    /// The token `n` behind the place; EOF beyond the end.
    pub(super) fn nth(&self, n: usize) -> &Token {
        self.tokens.get(self.at + n).map_or(&Token::EOF, |token| &token.token)
    }

    /// The token at the place.
    pub(super) fn peek(&self) -> &Token {
        self.nth(0)
    }

    /// All tokens from the place on.
    pub(super) fn tokens(&self) -> &[TokenWithSpan] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    /// The unquoted word `n` behind the place.
    pub(super) fn nth_word(&self, n: usize) -> Option<&str> {
        match self.nth(n) {
            Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
            _ => None,
        }
    }

    /// The unquoted word at the place.
    pub(super) fn peek_word(&self) -> Option<&str> {
        self.nth_word(0)
    }

    /// Whether this word stands `n` behind the place.
    pub(super) fn is_nth(&self, n: usize, word: &str) -> bool {
        self.nth_word(n).is_some_and(|found| found.eq_ignore_ascii_case(word))
    }

    /// Whether this word stands at the place.
    pub(super) fn is(&self, word: &str) -> bool {
        self.is_nth(0, word)
    }

    /// Whether one of these words stands at the place.
    pub(super) fn is_one_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }

    /// Whether all is read.
    pub(super) fn at_end(&self) -> bool {
        !self.cut && self.at >= self.tokens.len()
    }

    /// Move over one token, whatever it is.
    pub(super) fn skip(&mut self) {
        self.at += 1;
    }

    /// Move to the end.
    pub(super) fn skip_rest(&mut self) {
        (self.at, self.cut) = (self.tokens.len(), false);
    }

    /// Move over this word, if it is here.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        self.eat_all(&[word])
    }

    /// Move over these words, if all are here.
    pub(super) fn eat_all(&mut self, words: &[&str]) -> bool {
        let here = words.iter().enumerate().all(|(n, word)| self.is_nth(n, word));
        if here {
            self.at += words.len();
        }
        here
    }

    /// Move over one of these words, if one is here.
    pub(super) fn eat_one_of(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.eat(word))
    }

    /// Move over this token, if it is here.
    pub(super) fn eat_token(&mut self, token: &Token) -> bool {
        let here = self.peek() == token;
        self.at += usize::from(here);
        here
    }

    /// Move over this word.
    pub(super) fn need(&mut self, word: &str) -> Result<()> {
        if self.eat(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    /// Move over one of these words; which one.
    pub(super) fn need_one_of<'w>(&mut self, words: &[&'w str]) -> Result<&'w str> {
        let found = words.iter().find(|word| self.is(word)).copied();
        self.at += usize::from(found.is_some());
        found.ok_or_else(|| self.expected(&words.join(" or ")))
    }

    /// Move over this token.
    pub(super) fn need_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) { Ok(()) } else { Err(self.expected(&format!("'{token}'"))) }
    }

    /// A name: a word, quoted in any way or not reserved.
    pub(super) fn name(&mut self, what: &str) -> Result<String> {
        let name = match self.peek() {
            Token::Word(word) if word.quote_style.is_some() || !is_reserved(&word.value) => word.value.clone(),
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => text.clone(),
            _ => return Err(self.expected(what)),
        };
        if name.is_empty() {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(name)
    }

    /// `[database.]name`.
    pub(super) fn object_name(&mut self, what: &str) -> Result<ObjectName> {
        let first = self.name(what)?;
        if !self.eat_token(&Token::Period) {
            return Ok(ObjectName { database: None, name: first });
        }
        let name = self.name(what)?;
        if *self.peek() == Token::Period {
            return Err(Error::not_supported(format!("a catalog in front of '{first}.{name}' is not supported")));
        }
        Ok(ObjectName { database: Some(first), name })
    }

    /// A quoted text.
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A quoted text, a number (with its sign) or an unquoted word: what may stand for a value.
    pub(super) fn value(&mut self, what: &str) -> Result<String> {
        let (text, length) = match (self.peek(), self.nth(1)) {
            (Token::SingleQuotedString(text) | Token::DoubleQuotedString(text), _) => (text.clone(), 1),
            (Token::Number(digits, false), _) => (digits.clone(), 1),
            (Token::Minus, Token::Number(digits, false)) => (format!("-{digits}"), 2),
            (Token::Plus, Token::Number(digits, false)) => (digits.clone(), 2),
            (Token::Word(word), _) if word.quote_style.is_none() && !is_reserved(&word.value) => {
                (word.value.clone(), 1)
            }
            _ => return Err(self.expected(what)),
        };
        self.at += length;
        Ok(text)
    }

    /// A whole number.
    pub(super) fn number<N: std::str::FromStr>(&mut self, what: &str) -> Result<N> {
        let number = match self.peek() {
            Token::Number(digits, false) => digits.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.expected(what))?;
        self.at += 1;
        Ok(number)
    }

    /// `item [, item ...]`.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.eat_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(item [, item ...])`.
    pub(super) fn parenthesised<T>(&mut self, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.need_token(&Token::LParen)?;
        let items = self.list(item)?;
        self.need_token(&Token::RParen)?;
        Ok(items)
    }

    /// `(name [, name ...])`.
    pub(super) fn names(&mut self, what: &str) -> Result<Vec<String>> {
        self.parenthesised(|cursor| cursor.name(what))
    }

    /// `(key = value [, ...])`.
    pub(super) fn properties(&mut self) -> Result<Properties> {
        let mut properties = Properties::new();
        self.need_token(&Token::LParen)?;
        if self.eat_token(&Token::RParen) {
            return Ok(properties);
        }
        let pairs = self.list(|cursor| {
            let key = cursor.value("a property")?;
            cursor.need_token(&Token::Eq)?;
            Ok((key, cursor.value("a value")?))
        })?;
        self.need_token(&Token::RParen)?;
        for (key, value) in pairs {
            if properties.contains_key(&key) {
                return Err(Error::invalid(format!("Duplicated property: {key}")));
            }
            properties.insert(key, value);
        }
        Ok(properties)
    }

    /// `[PROPERTIES (...)]`.
    pub(super) fn optional_properties(&mut self) -> Result<Properties> {
        if self.eat("PROPERTIES") { self.properties() } else { Ok(Properties::new()) }
    }

    /// `[IF NOT EXISTS]`.
    pub(super) fn if_not_exists(&mut self) -> bool {
        self.eat_all(&["IF", "NOT", "EXISTS"])
    }

    /// `[IF EXISTS]`.
    pub(super) fn if_exists(&mut self) -> bool {
        self.eat_all(&["IF", "EXISTS"])
    }

    /// `[{FROM | IN} name]`.
    pub(super) fn optional_from(&mut self, what: &str) -> Result<Option<String>> {
        if self.eat_one_of(&["FROM", "IN"]) { self.name(what).map(Some) } else { Ok(None) }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.expected("end of statement")) }
    }

    /// The statement from the place on, as text.
    pub(super) fn rest(&self) -> &'a str {
        &self.sql[self.offset()..]
    }

    /// The statement.
    pub(super) fn text(&self) -> &'a str {
        self.sql
    }

    /// Where the place is in the text, bytes.
    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(self.sql.len(), |token| offset_of(self.sql, token.span.start))
    }

    /// Where a token is in the text, bytes.
    pub(super) fn offset_of(&self, token: &TokenWithSpan) -> usize {
        offset_of(self.sql, token.span.start)
    }

    /// A syntax error at the place.
    pub(super) fn expected(&self, what: &str) -> Error {
        if self.cut && self.at >= self.tokens.len() {
            let limit = HEAD_BYTES;
            return Error::limit(format!("expected {what} within the first {limit} bytes of the statement"));
        }
        syntax_at(self.sql, self.offset(), &format!("expected {what}"))
    }
}

fn without_blanks(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect()
}

fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The byte at a line and column of `sql`, both counted from 1, columns in characters.
fn offset_of(sql: &str, location: Location) -> usize {
    let (mut line, mut column) = (1, 1);
    for (offset, character) in sql.char_indices() {
        if (line, column) >= (location.line, location.column) {
            return offset;
        }
        (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    sql.len()
}

/// A syntax error at a byte of `sql`.
fn syntax_at(sql: &str, offset: usize, why: &str) -> Error {
    let (before, near) = sql.split_at(offset);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    let shortly_before = &before[before.floor_char_boundary(before.len().saturating_sub(EXCERPT_CHARS))..];
    let near = if is_secret_key(shortly_before) { MASK.to_owned() } else { excerpt_at(sql, offset, near) };
    syntax(format!("You have an error in your SQL syntax near '{near}' at line {line}, column {column}: {why}"))
}

/// The start of what follows `offset`, with the secrets of the whole statement masked.
fn excerpt_at(sql: &str, offset: usize, near: &str) -> String {
    let short = offset + near.chars().take(EXCERPT_CHARS).map(char::len_utf8).sum::<usize>();
    match secrets(sql).into_iter().find(|secret| secret.start < short && offset < secret.end) {
        Some(secret) if secret.start <= offset => MASK.to_owned(),
        Some(secret) => format!("{}{MASK}...", excerpt(&sql[offset..secret.start])),
        None => excerpt(near),
    }
}

/// The start of `text`, short enough to quote. It ends where a secret may begin.
pub(super) fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(EXCERPT_CHARS).collect();
    match short.char_indices().map(|(end, _)| &short[..end]).find(|start| is_secret_key(start)) {
        Some(start) => format!("{start}..."),
        None => short,
    }
}
