//! What a query may cost to read, counted before it is read.
//!
//! `a + b + c` and `x UNION y UNION z` become trees as deep as they are long, and trees are taken apart by recursion; so
//! chains of operators are bounded. Lists (IN, VALUES, arguments) are no chains. Nesting is bounded, and closer still
//! where sqlparser reads what is inside twice when it finds an error there (CASE, CAST and their like, parentheses in
//! FROM): each such level doubles the time of refusing the statement.

use crate::error::{Error, Result};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// Operators in a row.
const MAX_CHAIN: usize = 1000;
/// UNION, EXCEPT, INTERSECT and JOIN of one statement.
const MAX_JOINED: usize = 200;
/// Parentheses and brackets within each other; sqlparser's own limit.
const MAX_NESTING: usize = 50;
/// Parentheses around tables within each other: they take much stack.
const MAX_TABLE_NESTING: usize = 16;
/// ARRAY<, MAP<, STRUCT< of one statement: sqlparser bounds none of them.
const MAX_NESTED_TYPES: usize = 32;
/// Tokens times two to the power of the levels that are read twice: a fraction of a second.
const MAX_WORK: usize = 1 << 22;

const WORD_OPERATORS: [&str; 12] =
    ["AND", "OR", "XOR", "NOT", "LIKE", "RLIKE", "REGEXP", "DIV", "MOD", "IS", "BETWEEN", "COLLATE"];
const JOINING: [&str; 5] = ["UNION", "EXCEPT", "INTERSECT", "MINUS", "JOIN"];
const CLAUSES: [&str; 9] = ["SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "ON", "WHEN"];
const TYPES_WITH_PARTS: [&str; 4] = ["ARRAY", "MAP", "STRUCT", "NESTED"];
/// Keywords with a parenthesis behind them that is read once.
const READ_ONCE: [&str; 30] = [
    "ALL", "AND", "ANY", "AS", "AVG", "BY", "COALESCE", "COUNT", "ELSE", "EXISTS", "HAVING", "IF", "IN", "LEFT",
    "LIKE", "MAX", "MIN", "NULLIF", "ON", "OR", "OVER", "REPLACE", "RIGHT", "SELECT", "SETS", "SUM", "THEN", "VALUES",
    "WHEN", "WHERE",
];

/// Refuse what would cost too much.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut scan = Scan { frames: vec![Frame::default()], joined: 0, types: 0, twice: 0, most_twice: 0 };
    let mut before = &Token::EOF;
    for token in tokens {
        scan.step(before, &token.token)?;
        before = &token.token;
    }
    let work = u32::try_from(scan.most_twice).ok().and_then(|levels| 1_usize.checked_shl(levels.min(40)));
    if work.and_then(|work| work.checked_mul(tokens.len())).is_none_or(|work| work > MAX_WORK) {
        return Err(Error::limit("CASE, CAST or the like are nested too deeply for a statement of this length"));
    }
    Ok(())
}

/// What is open at one place: a parenthesis or a CASE; the outermost is the statement.
#[derive(Default)]
struct Frame {
    case: bool,
    table: bool,
    /// Levels that are read twice and end with this.
    twice: usize,
    /// Operators since the last comma or clause.
    chain: usize,
    /// INTERVAL without a number yet; each is read twice as well.
    intervals: usize,
}

struct Scan {
    frames: Vec<Frame>,
    joined: usize,
    types: usize,
    twice: usize,
    most_twice: usize,
}

impl Scan {
    fn step(&mut self, before: &Token, token: &Token) -> Result<()> {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => self.open(before, token),
            Token::RParen | Token::RBracket | Token::RBrace => {
                while self.top().case {
                    self.close();
                }
                self.close();
                Ok(())
            }
            Token::Comma => {
                self.end_intervals();
                self.top().chain = 0;
                Ok(())
            }
            Token::Word(word) if word.quote_style.is_none() => self.word(word),
            Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => {
                self.end_intervals();
                Ok(())
            }
            Token::Word(_) | Token::Period => Ok(()),
            Token::Lt if is_one_of(before, &TYPES_WITH_PARTS) => {
                self.types += 1;
                limit("nested types", self.types, MAX_NESTED_TYPES)?;
                self.operator()
            }
            _ => self.operator(),
        }
    }

    fn word(&mut self, word: &Word) -> Result<()> {
        let is = |words: &[&str]| words.iter().any(|other| other.eq_ignore_ascii_case(&word.value));
        if is(&CLAUSES) {
            self.top().chain = 0;
        } else if is(&WORD_OPERATORS) {
            self.operator()?;
        } else if is(&JOINING) {
            self.joined += 1;
            limit("UNION or JOIN", self.joined, MAX_JOINED)?;
        } else if is(&["CASE"]) {
            self.push(Frame { case: true, twice: 1, ..Frame::default() });
        } else if is(&["END"]) && self.top().case {
            self.close();
        } else if is(&["INTERVAL"]) {
            self.top().intervals += 1;
            self.grow_twice(1);
        }
        Ok(())
    }

    fn open(&mut self, before: &Token, token: &Token) -> Result<()> {
        let table = *token == Token::LParen
            && (is_one_of(before, &["FROM", "JOIN", "LATERAL"]) || (*before == Token::LParen && self.top().table));
        let keyword = match before {
            Token::Word(word) => word.quote_style.is_none() && word.keyword != Keyword::NoKeyword,
            _ => false,
        };
        let twice = match () {
            () if table => 1,
            // Tried as `position(a IN b)`, as a function, as a name.
            () if is_one_of(before, &["POSITION"]) => 2,
            () if keyword && !is_one_of(before, &READ_ONCE) => 1,
            () => 0,
        };
        self.push(Frame { table, twice, ..Frame::default() });
        limit(
            "parentheses within each other",
            self.frames.iter().filter(|frame| !frame.case).count() - 1,
            MAX_NESTING,
        )?;
        let tables = self.frames.iter().filter(|frame| frame.table).count();
        limit("parentheses around tables within each other", tables, MAX_TABLE_NESTING)
    }

    fn push(&mut self, frame: Frame) {
        self.grow_twice(frame.twice);
        self.frames.push(frame);
    }

    fn grow_twice(&mut self, by: usize) {
        self.twice += by;
        self.most_twice = self.most_twice.max(self.twice);
    }

    /// The innermost frame. The outermost one is never taken away.
    fn top(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn close(&mut self) {
        self.end_intervals();
        if self.frames.len() > 1 {
            self.twice -= self.top().twice;
            self.frames.pop();
        }
    }

    fn end_intervals(&mut self) {
        let ended = std::mem::take(&mut self.top().intervals);
        self.twice -= ended;
    }

    fn operator(&mut self) -> Result<()> {
        self.top().chain += 1;
        limit("operators in a row (for a list of values use IN)", self.top().chain, MAX_CHAIN)
    }
}

fn is_one_of(token: &Token, words: &[&str]) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_none() && words.iter().any(|other| other.eq_ignore_ascii_case(&word.value))
        }
        _ => false,
    }
}

fn limit(what: &str, found: usize, most: usize) -> Result<()> {
    if found > most { Err(Error::limit(format!("more than {most} {what}"))) } else { Ok(()) }
}
