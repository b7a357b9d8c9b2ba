//! Expressions that MySQL writes in another shape than the engine: `REGEXP`, `SUBSTRING`, times plus intervals, `MOD()`,
//! `GROUP_CONCAT`. Part of [`super::dialect`]'s rewriting; what is not understood is left as it is. Pure.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval, ObjectName, ObjectNamePart,
    UnaryOperator, Value,
};

/// Units of at least a day: added to a date they give a date.
const DAYS: [&str; 5] = ["YEAR", "QUARTER", "MONTH", "WEEK", "DAY"];
/// Shorter ones.
const TIMES: [&str; 4] = ["HOUR", "MINUTE", "SECOND", "MICROSECOND"];
/// Letters of a date without a time.
const DATE_LETTERS: usize = 10;

/// Rewrite one expression; those within it are done.
pub(super) fn reshape(expr: &mut Expr) {
    let new = match expr {
        Expr::RLike { negated, expr: text, pattern, .. } => {
            let found = call("regexp_like", vec![text.as_ref().clone(), pattern.as_ref().clone()]);
            let not = |found| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) };
            Some(if *negated { nested(not(found)) } else { found })
        }
        Expr::Substring { expr: text, substring_from, substring_for, .. } => {
            let start = substring_from.as_deref().cloned().unwrap_or_else(|| number("1"));
            let mut all = vec![text.as_ref().clone(), start];
            all.extend(substring_for.as_deref().cloned());
            Some(call("substr", all))
        }
        Expr::BinaryOp { left, op, right } => match (left.as_ref(), op, right.as_ref()) {
            (time, BinaryOperator::Plus, Expr::Interval(interval))
            | (Expr::Interval(interval), BinaryOperator::Plus, time) => add(time, interval, false),
            (time, BinaryOperator::Minus, Expr::Interval(interval)) => add(time, interval, true),
            _ => None,
        },
        Expr::Function(function) => of_function(function),
        _ => None,
    };
    if let Some(new) = new {
        *expr = new;
    }
}

fn of_function(function: &mut Function) -> Option<Expr> {
    let name = function.name.to_string().to_ascii_lowercase();
    if name == "group_concat" {
        group_concat(function);
        return None;
    }
    let given: Vec<Expr> = arguments(function)?
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect::<Option<_>>()?;
    match (name.as_str(), &given[..]) {
        ("mod", [left, right]) => {
            let (left, right) = (Box::new(nested(left.clone())), Box::new(nested(right.clone())));
            Some(nested(Expr::BinaryOp { left, op: BinaryOperator::Modulo, right }))
        }
        ("date_add" | "adddate", [time, Expr::Interval(interval)]) => add(time, interval, false),
        ("date_sub" | "subdate", [time, Expr::Interval(interval)]) => add(time, interval, true),
        ("adddate", [time, days]) => Some(added(time, days.clone(), "DAY")),
        ("subdate", [time, days]) => Some(added(time, minus(days.clone()), "DAY")),
        ("now" | "current_timestamp" | "localtime" | "localtimestamp" | "sysdate", [Expr::Value(_)]) => {
            Some(call("now_exact", Vec::new()))
        }
        ("unix_timestamp", []) => Some(call("unix_now", Vec::new())),
        ("from_unixtime", [seconds, format]) => {
            Some(call("date_format", vec![call("from_unixtime", vec![seconds.clone()]), format.clone()]))
        }
        _ => None,
    }
}

/// A time and an interval of one unit.
fn add(time: &Expr, interval: &Interval, negative: bool) -> Option<Expr> {
    if interval.last_field.is_some() || matches!(time, Expr::Interval(_)) {
        return None;
    }
    let unit = interval.leading_field.as_ref()?.to_string().to_ascii_uppercase();
    let unit = unit.strip_suffix('S').unwrap_or(&unit);
    let unit = *DAYS.iter().chain(&TIMES).find(|known| **known == unit)?;
    let mut count = interval.value.as_ref().clone();
    if let Some(text) = text_of(&count) {
        text.trim().parse::<f64>().ok()?;
        count = number(text.trim());
    }
    Some(added(time, if negative { minus(count) } else { count }, unit))
}

fn added(time: &Expr, count: Expr, unit: &str) -> Expr {
    let days = DAYS.contains(&unit);
    let dated = text_of(time).is_some_and(|text| text.len() <= DATE_LETTERS && !text.contains(':'));
    let time = if days && dated { cast(time.clone(), DataType::Date) } else { time.clone() };
    let unit = Expr::Value(Value::SingleQuotedString(unit.to_owned()).into());
    call(if days { "date_add" } else { "time_add" }, vec![time, count, unit])
}

fn text_of(expr: &Expr) -> Option<&str> {
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(text),
        _ => None,
    }
}

/// Becomes `string_agg`, with the separator as an argument.
fn group_concat(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let mut given = Vec::with_capacity(list.args.len());
    for argument in &list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return };
        given.push(expr.clone());
    }
    let mut separator = Value::SingleQuotedString(",".to_owned());
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let text = match given.len() {
        0 => return,
        // What is made distinct has to stay what it is ordered by.
        1 if distinct => given.remove(0),
        1 => cast(given.remove(0), DataType::Text),
        _ => call("concat", given),
    };
    list.clauses.retain_mut(|clause| match clause {
        FunctionArgumentClause::Separator(with) => {
            separator = with.value.clone();
            false
        }
        _ => true,
    });
    list.args = vec![unnamed(text), unnamed(Expr::Value(separator.into()))];
    rename(function, "string_agg");
}

fn unnamed(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

fn minus(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(nested(expr)) }
}

fn number(digits: &str) -> Expr {
    Expr::Value(Value::Number(digits.to_owned(), false).into())
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(unnamed).collect();
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Call another function with the same arguments.
pub(super) fn rename(function: &mut Function, name: &str) {
    function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]);
}

/// Its arguments, where it has a list.
pub(super) fn arguments(function: &mut Function) -> Option<&mut Vec<FunctionArg>> {
    match &mut function.args {
        FunctionArguments::List(list) => Some(&mut list.args),
        FunctionArguments::None | FunctionArguments::Subquery(_) => None,
    }
}
