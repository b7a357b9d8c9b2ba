//! What MySQL has and the engine has not: functions about the session, `if`, parts of dates, session variables, and
//! division as MySQL means it (whole numbers divide to a fraction, division by zero is NULL).

use super::Caller;
use super::date_format::DateFormat;
use super::errors::to_engine;
use super::zone::{to_local, zone};
use super::{strings, times};
use crate::account::AccountName;
use coffer_stdx::Error;
use coffer_table::calendar::DAY_US;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err, plan_err};
use datafusion::functions::datetime::date_part;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast, lit, when,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion::variable::VarProvider;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;

/// The functions of one session for a statement that begins at `now`, microseconds of UTC.
pub(crate) fn of_session(caller: &Caller, now: i64) -> Vec<ScalarUDF> {
    let database = ScalarValue::Utf8(caller.database.clone());
    let user = ScalarValue::from(caller.who.name());
    let account = caller.who.account.as_deref().unwrap_or(&caller.who.user);
    let account = ScalarValue::from(AccountName::from_key(account).to_string());
    let constant = |names: &[&str], value: &ScalarValue| ScalarUDF::from(Constant::new(names, value.clone()));
    let mut functions = vec![
        constant(&["database", "schema"], &database),
        constant(&["user", "session_user", "system_user"], &user),
        constant(&["current_user"], &account),
        constant(&["version"], &ScalarValue::from(caller.version)),
        constant(&["connection_id"], &ScalarValue::from(u64::from(caller.connection))),
        ScalarUDF::from(If::new()),
        ScalarUDF::from(DateFormat::new()),
    ];
    let parts = ["year", "quarter", "month", "week", "day", "hour", "minute", "second"];
    functions.extend(parts.map(|part| ScalarUDF::from(Part::new(part))));
    let zone = caller.variables.get("time_zone").map_or("UTC", String::as_str);
    functions.extend(clock(now, zone));
    functions.extend(times::functions(zone));
    functions.extend(strings::functions());
    functions
}

/// What a clock in the zone shows while the statement runs. Whole seconds, unless digits of a second were asked for.
fn clock(now: i64, name: &str) -> Vec<ScalarUDF> {
    let local = zone(name).ok().and_then(|zone| to_local(now, zone)).unwrap_or(now);
    let second = |micros: i64| micros.div_euclid(SECOND_US) * SECOND_US;
    let time = |micros: i64| ScalarValue::TimestampMicrosecond(Some(micros), None);
    let day = |micros: i64| ScalarValue::Date32(i32::try_from(micros.div_euclid(DAY_US)).ok());
    let constant = |names: &[&str], value: ScalarValue| ScalarUDF::from(Constant::new(names, value));
    vec![
        constant(&["now", "current_timestamp"], time(second(local))),
        constant(&["now_exact"], time(local)),
        constant(&["current_date"], day(local)),
        constant(&["current_time"], ScalarValue::Time64Microsecond(Some(second(local).rem_euclid(DAY_US)))),
        constant(&["utc_timestamp"], time(second(now))),
        constant(&["utc_date"], day(now)),
        constant(&["unix_now"], ScalarValue::Int64(Some(now.div_euclid(SECOND_US)))),
    ]
}

/// A function without arguments whose value the session fixes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: String,
    aliases: Vec<String>,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(names: &[&str], value: ScalarValue) -> Constant {
        Constant {
            name: names.first().copied().unwrap_or_default().to_owned(),
            aliases: names.iter().skip(1).map(|name| (*name).to_owned()).collect(),
            value,
            signature: Signature::nullary(Volatility::Stable),
        }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        &self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `if(condition, then, else)`: becomes a CASE.
#[derive(Debug, PartialEq, Eq, Hash)]
struct If {
    signature: Signature,
}

impl If {
    fn new() -> If {
        If { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for If {
    fn name(&self) -> &'static str {
        "if"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.get(1).cloned().unwrap_or(DataType::Null))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [_, then, otherwise] = types else { return plan_err!("if() takes three arguments, {} given", types.len()) };
        let Some(common) = comparison_coercion(then, otherwise) else {
            return plan_err!("if() cannot be {then} and {otherwise} at once");
        };
        Ok(vec![DataType::Boolean, common.clone(), common])
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if args.len() != 3 {
            return internal_err!("if() with {} arguments", args.len());
        }
        let otherwise = args.remove(2);
        let then = args.remove(1);
        Ok(ExprSimplifyResult::Simplified(when(args.remove(0), then).otherwise(otherwise)?))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("if() was not turned into CASE")
    }
}

/// `year(date)` and the like: become `date_part`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Part {
    name: &'static str,
    signature: Signature,
}

impl Part {
    fn new(name: &'static str) -> Part {
        Part { name, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn inner(&self, arg: Expr) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(date_part(), vec![lit(self.name), arg]))
    }
}

impl ScalarUDFImpl for Part {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn simplify(&self, mut args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(arg) = args.pop() else { return internal_err!("{}() without an argument", self.name) };
        let text = matches!(
            arg.get_type(info.schema())?,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
        );
        let time = DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, None);
        let arg = if text { cast(arg, time) } else { arg };
        Ok(ExprSimplifyResult::Simplified(cast(self.inner(arg), DataType::Int32)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{}() was not turned into date_part()", self.name)
    }
}

/// Division as in MySQL.
#[derive(Debug)]
pub(crate) struct Division;

impl ExprPlanner for Division {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let op = match &expr.op {
            BinaryOperator::Divide | BinaryOperator::MyIntegerDivide => Operator::Divide,
            BinaryOperator::Modulo => Operator::Modulo,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let whole = |side: &Expr| side.get_type(schema).is_ok_and(|kind| kind.is_integer());
        let (left, right) = if expr.op == BinaryOperator::Divide && whole(&expr.left) && whole(&expr.right) {
            (cast(expr.left, DataType::Float64), cast(expr.right, DataType::Float64))
        } else {
            (expr.left, expr.right)
        };
        let right = if is_plain_number(&right) { right } else { null_for_zero(right)? };
        let result = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
        let cut = expr.op == BinaryOperator::MyIntegerDivide;
        Ok(PlannerResult::Planned(if cut { cast(result, DataType::Int64) } else { result }))
    }
}

/// A literal other than zero.
fn is_plain_number(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => {
            !value.is_null() && ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| zero != *value)
        }
        Expr::Cast(inner) => is_plain_number(&inner.expr),
        _ => false,
    }
}

fn null_for_zero(expr: Expr) -> Result<Expr> {
    when(expr.clone().eq(lit(0_i64)), lit(ScalarValue::Null)).otherwise(expr)
}

/// `@@name` and `@name`.
#[derive(Debug)]
pub(crate) struct Variables {
    pub(crate) values: Arc<BTreeMap<String, String>>,
    /// `@name`: an unknown one is NULL.
    pub(crate) of_user: bool,
}

impl Variables {
    fn find(&self, names: &[String]) -> Option<&String> {
        let name = names.last()?.trim_start_matches('@').to_ascii_lowercase();
        let key = if self.of_user { format!("@{name}") } else { name };
        self.values.get(&key)
    }
}

impl VarProvider for Variables {
    fn get_value(&self, names: Vec<String>) -> Result<ScalarValue> {
        match self.find(&names) {
            Some(value) => {
                Ok(value.parse::<i64>().map_or_else(|_| ScalarValue::from(value.clone()), ScalarValue::from))
            }
            None if self.of_user => Ok(ScalarValue::Utf8(None)),
            None => {
                let name = names.last().map_or("", |name| name.trim_start_matches('@'));
                let error = Error::invalid(format!("Unknown system variable '{name}'"));
                Err(to_engine(error.numbered(crate::error::number::UNKNOWN_VARIABLE)))
            }
        }
    }

    fn get_type(&self, names: &[String]) -> Option<DataType> {
        let whole = self.find(names).is_some_and(|value| value.parse::<i64>().is_ok());
        Some(if whole { DataType::Int64 } else { DataType::Utf8 })
    }
}
