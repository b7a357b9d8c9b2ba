//! SELECT: a statement goes in as text, batches come out.
//!
//! One look at the replicated state pins every table of the statement at its visible version ([`pin`]); the engine plans
//! against those ([`catalog`], [`table`]); scans leave out partitions that the conditions exclude ([`prune`]), spread over
//! living replicas ([`assign`]) and stream from backends ([`fetch`], [`source`]); rows are written as MySQL knows them
//! ([`encode`]). Joins, sorts and groups run in this process, on threads of their
//! own ([`lane`]), in a bounded memory pool, and spill to the temporary directory.
//!
//! Nothing durable is written here; a crash ends the queries that run.
//!
//! Modules, bottom to top: `errors`, `shapes`, `dialect`, `compare`, `zone`, `times`, `strings`, `pin`, `prune`, `names`, `checksum`, `date_format`,
//! `encode`, `lane` | `source`, `assign` |
//! `fetch` | `table` | `system`, `catalog` | this file with `functions`, `views`, `stream`.

mod assign;
mod catalog;
mod checksum;
mod compare;
mod date_format;
mod dialect;
pub mod encode;
#[cfg(test)]
mod engine_tests;
mod errors;
mod fetch;
mod functions;
mod lane;
mod names;
mod pin;
mod prune;
#[cfg(test)]
mod sample;
mod shapes;
mod source;
mod statement;
mod stream;
mod strings;
mod system;
mod table;
mod times;
mod views;
mod zone;

pub use stream::QueryStream;
pub use system::table_names as system_tables;
pub use views::{Described, in_database as view_in_database, reads as view_reads};
pub use zone::zone;

use crate::account::Who;
use crate::backends::Backends;
use crate::config::Config;
use crate::meta::state::State;
use crate::raft::Meta;
use catalog::{CATALOG, Catalog, ViewSlots};
use checksum::Checksum;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, Result};
use compare::Comparisons;
use datafusion::common::config::Dialect;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{FunctionRegistry, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, LogicalPlan};
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::variable::VarType;
use errors::from_engine;
use functions::{Division, Variables};
use lane::{Lane, YieldOften};
use pin::Pinned;
use source::{Flight, Source};
use statement::Parsed;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Rows of the batches that operators pass on.
const BATCH_ROWS: usize = 8_192;
/// Streams an operator works on at least.
const MIN_PARTITIONS: usize = 2;
/// Stack of a thread that plans; only what is used takes memory.
const PLAN_STACK_BYTES: usize = 64 << 20;
/// How the engine complains of two results of one name, which MySQL allows.
const SAME_NAMES: &str = "require unique expression names";
/// Users of memory named in the error when there is not enough.
const NAMED_CONSUMERS: usize = 3;

/// Who asks, and what the session says.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The user, for `user()` and for what it may read.
    pub who: Who,
    /// The current database.
    pub database: Option<String>,
    /// The number of the connection.
    pub connection: u32,
    /// What `version()` answers.
    pub version: &'static str,
    /// Session variables by lower-case name; those of the user with an `@` before the name.
    pub variables: Arc<BTreeMap<String, String>>,
}

/// Plans and runs queries; cloned freely.
#[derive(Clone)]
pub struct Engine {
    meta: Meta,
    source: Arc<dyn Source>,
    /// What every session starts from.
    base: Arc<SessionState>,
    lane: Arc<Lane>,
}

impl Engine {
    /// An engine over the tables of the catalog.
    pub fn new(meta: Meta, backends: Backends, config: &Config) -> Result<Engine> {
        Engine::over(meta, Arc::new(Flight::new(backends)), config)
    }

    fn over(meta: Meta, source: Arc<dyn Source>, config: &Config) -> Result<Engine> {
        let pool = FairSpillPool::new(config.query_memory_mb << 20);
        let named = NonZeroUsize::new(NAMED_CONSUMERS).unwrap_or(NonZeroUsize::MIN);
        let base = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, named)))
            .build_arc()
            .and_then(base_state)
            .map_err(|error| from_engine(&error))?;
        Ok(Engine { meta, source, base: Arc::new(base), lane: Arc::new(Lane::new()?) })
    }

    /// Plan a statement and start it. The rows come from the stream.
    pub async fn query(&self, caller: &Caller, sql: &str) -> Result<QueryStream> {
        let (engine, caller, sql) = (self.clone(), caller.clone(), sql.to_owned());
        on_deep_stack(self.lane.handle().clone(), async move {
            let mut parsed = statement::parse(&sql)?;
            let headings = parsed.take_headings();
            let (context, plan) = engine.plan(&caller, parsed).await?;
            let run = async { context.execute_logical_plan(plan).await?.execute_stream().await };
            let batches = run.await.map_err(|error| from_engine(&error))?;
            Ok(QueryStream::new(engine.lane.run(batches), headings))
        })
        .await
    }

    async fn plan(&self, caller: &Caller, mut parsed: Parsed) -> Result<(SessionContext, LogicalPlan)> {
        let state = self.base.as_ref().clone();
        let current = caller.database.as_deref();
        let wanted = parsed.tables(&state, current)?;
        let moment = self.meta.view(State::clone);
        let mut beneath = views::beneath(&moment, &state, &wanted.names, current)?;
        let who = (current, &caller.who);
        let mut pinned = if wanted.catalog {
            Pinned::everything(&moment, &wanted.names, who)?
        } else {
            Pinned::named(&moment, &wanted.names, &wanted.parts, who)?
        };
        views::pin(&moment, &mut pinned, &mut beneath)?;
        parsed.fix_names(&pinned, wanted.catalog);
        let slots = ViewSlots::default();
        let context = self.context(state, caller, (pinned, slots.clone()));
        views::plan(&context, &slots, beneath).await?;
        let mut plan = plan_statement(&context, parsed.clone()).await;
        if plan.as_ref().is_err_and(|error| error.message().contains(SAME_NAMES)) {
            parsed.name_expressions();
            plan = plan_statement(&context, parsed).await;
        }
        let plan = plan.map_err(|error| from_engine(&error))?;
        Ok((context, plan))
    }

    fn context(&self, state: SessionState, caller: &Caller, (pinned, views): (Pinned, ViewSlots)) -> SessionContext {
        let mut builder = SessionStateBuilder::new_from_existing(state);
        if let Some(config) = builder.config()
            && let Some(database) = &caller.database
        {
            config.options_mut().catalog.default_schema.clone_from(database);
        }
        let context = SessionContext::new_with_state(builder.build());
        context.register_catalog(CATALOG, Arc::new(Catalog::new(pinned, &self.source, &views)));
        let now_us = i64::try_from(now_ms()).unwrap_or(0) * 1_000;
        for function in functions::of_session(caller, now_us) {
            context.register_udf(function);
        }
        for (kind, of_user) in [(VarType::System, false), (VarType::UserDefined, true)] {
            context.register_variable(kind, Arc::new(Variables { values: Arc::clone(&caller.variables), of_user }));
        }
        context
    }
}

async fn plan_statement(context: &SessionContext, parsed: Parsed) -> Result<LogicalPlan, DataFusionError> {
    let plan = context.state().statement_to_plan(parsed.into_statement()).await?;
    let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reading.verify_plan(&plan)?;
    Ok(plan)
}

/// Settings and functions that all sessions share.
fn base_state(runtime: Arc<RuntimeEnv>) -> Result<SessionState, DataFusionError> {
    let cores = std::thread::available_parallelism().map_or(MIN_PARTITIONS, NonZeroUsize::get);
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(cores.max(MIN_PARTITIONS))
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, "");
    let parser = &mut config.options_mut().sql_parser;
    parser.dialect = Dialect::MySQL;
    // Names are compared as written, after `names` gave them the declared case.
    parser.enable_ident_normalization = false;
    // `1.10` is exact, as in MySQL.
    parser.parse_float_as_decimal = true;
    parser.map_string_types_to_utf8view = false;
    // NULL sorts below every value.
    parser.default_null_ordering = "nulls_min".to_owned();
    let mut state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_physical_optimizer_rule(Arc::new(YieldOften))
        .build();
    state.register_udaf(Arc::new(AggregateUDF::from(Checksum::new())))?;
    state.register_expr_planner(Arc::new(Comparisons))?;
    state.register_expr_planner(Arc::new(Division))?;
    state.register_function_rewrite(Arc::new(Comparisons))?;
    Ok(state)
}

/// Planning walks expressions by recursion; a thread of its own has the stack for the deepest that
/// [`crate::sql`] lets pass.
async fn on_deep_stack<T: Send + 'static>(
    runtime: tokio::runtime::Handle,
    plan: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("plan".to_owned())
        .stack_size(PLAN_STACK_BYTES)
        .spawn(move || sender.send(runtime.block_on(plan)).is_ok())
        .map_err(|error| Error::limit(format!("start a thread for the query: {error}")))?;
    receiver.await.map_err(|_| Error::bug("the thread that planned the query ended without an answer"))?
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}
