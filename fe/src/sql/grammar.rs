//! The grammar of expressions where the engine's reading of MySQL is not MySQL's: `DIV` and `MOD` bind like `*` and group
//! to the left. Everything else is the parser's own dialect of MySQL. Pure.

use sqlparser::ast::{BinaryOperator, Expr, Statement};
use sqlparser::dialect::{Dialect, MySqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;
use std::any::TypeId;

const MYSQL: MySqlDialect = MySqlDialect {};

/// What statements that read are written in.
#[derive(Debug)]
pub struct Grammar;

/// Answer as MySQL's dialect does.
macro_rules! as_mysql {
    ($($question:ident),+ $(,)?) => {
        $(fn $question(&self) -> bool {
            MYSQL.$question()
        })+
    };
}

impl Dialect for Grammar {
    // The parser asks in many places whether this is MySQL.
    fn dialect(&self) -> TypeId {
        TypeId::of::<MySqlDialect>()
    }

    fn is_identifier_start(&self, letter: char) -> bool {
        MYSQL.is_identifier_start(letter)
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        MYSQL.is_identifier_part(letter)
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        MYSQL.is_delimited_identifier_start(letter)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        MYSQL.identifier_quote_style(identifier)
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        MYSQL.is_table_factor_alias(explicit, keyword, parser)
    }

    fn parse_statement(&self, parser: &mut Parser) -> Option<Result<Statement, ParserError>> {
        MYSQL.parse_statement(parser)
    }

    as_mysql!(
        supports_string_literal_backslash_escape,
        supports_string_literal_concatenation,
        ignores_wildcard_escapes,
        supports_numeric_prefix,
        supports_bitwise_shift_operators,
        supports_multiline_comment_hints,
        require_interval_qualifier,
        supports_limit_comma,
        supports_create_table_select,
        supports_insert_set,
        supports_user_host_grantee,
        supports_table_hints,
        requires_single_line_comment_whitespace,
        supports_match_against,
        supports_select_modifiers,
        supports_set_names,
        supports_comma_separated_set_assignments,
        supports_update_order_by,
        supports_data_type_signed_suffix,
        supports_cross_join_constraint,
        supports_double_ampersand_operator,
        supports_binary_kw_as_cast,
        supports_comment_optimizer_hint,
        supports_constraint_keyword_without_name,
        supports_key_column_option,
    );

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Word(word) if word.keyword == Keyword::MOD => Some(Ok(self.prec_value(Precedence::MulDivModOp))),
            _ => None,
        }
    }

    fn parse_infix(&self, parser: &mut Parser, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        let op = if parser.parse_keyword(Keyword::DIV) {
            BinaryOperator::MyIntegerDivide
        } else if parser.parse_keyword(Keyword::MOD) {
            BinaryOperator::Modulo
        } else {
            return None;
        };
        let binary = |right| Expr::BinaryOp { left: Box::new(left.clone()), op, right: Box::new(right) };
        Some(parser.parse_subexpr(precedence).map(binary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn div_and_mod_bind_like_times() {
        for (sql, expected) in [
            ("10 - 7 DIV 2 - 1", "((10 - (7 DIV 2)) - 1)"),
            ("7 div 2 + 1", "((7 DIV 2) + 1)"),
            ("8 DIV 2 DIV 2", "((8 DIV 2) DIV 2)"),
            ("7 DIV 2 * 2", "((7 DIV 2) * 2)"),
            ("k DIV 10 = 1", "((k DIV 10) = 1)"),
            ("1 + 7 mod 4", "(1 + (7 % 4))"),
            ("mod(7, 4)", "mod(7, 4)"),
            ("a AND 8 MOD 3 > 1", "(a AND ((8 % 3) > 1))"),
        ] {
            let parsed = Parser::new(&Grammar).try_with_sql(sql).unwrap().parse_expr().unwrap();
            assert_eq!(bracketed(&parsed), expected, "{sql}");
        }
    }

    fn bracketed(expr: &Expr) -> String {
        match expr {
            Expr::BinaryOp { left, op, right } => format!("({} {op} {})", bracketed(left), bracketed(right)),
            other => other.to_string(),
        }
    }

    #[test]
    fn the_rest_is_mysql() {
        for sql in ["SELECT `a` FROM t LIMIT 1, 2", "SELECT 'it\\'s', \"x\", @a, 1 FROM dual WHERE a && b"] {
            let ours = Parser::parse_sql(&Grammar, sql).unwrap();
            assert_eq!(ours, Parser::parse_sql(&MYSQL, sql).unwrap(), "{sql}");
        }
    }
}
