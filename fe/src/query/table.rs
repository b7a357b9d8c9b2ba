//! A pinned table as the engine sees it, and the scan of it.

use super::assign::{Standing, assign};
use super::encode::FRACTION;
use super::errors::to_engine;
use super::fetch::{ScanSpec, read};
use super::pin::{PinnedTable, TabletRead};
use super::prune::{Allowed, KeyColumn, is_useful};
use super::source::Source;
use crate::catalog::table::{Partition, Table};
use async_trait::async_trait;
use coffer_proto::ids::BackendId;
use coffer_table::ColumnType;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err, project_schema};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, statistics::StatisticsArgs,
};
use futures::StreamExt;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Batches that a scan reads ahead per stream.
const READ_AHEAD: usize = 2;

/// A table.
#[derive(Debug)]
pub(crate) struct CofferTable {
    pinned: PinnedTable,
    schema: SchemaRef,
    source: Arc<dyn Source>,
}

impl CofferTable {
    pub(crate) fn new(pinned: PinnedTable, source: Arc<dyn Source>) -> CofferTable {
        CofferTable { schema: declared(&pinned.table.schema), pinned, source }
    }

    fn rows(&self, tablets: &[TabletRead]) -> Option<usize> {
        let rows_of = |tablet: &TabletRead| {
            let reported = |replica: &BackendId| self.source.reported(tablet.tablet, *replica);
            tablet.replicas.iter().filter_map(reported).max_by_key(|seen| seen.version).map(|seen| seen.rows)
        };
        tablets.iter().map(rows_of).try_fold(0, |sum, rows| Some(sum + rows? as usize))
    }
}

/// The columns, with the digits of a second that their times were declared with.
fn declared(schema: &coffer_table::Schema) -> SchemaRef {
    let arrow = schema.arrow();
    let fields = schema.columns.iter().zip(arrow.fields()).map(|(column, field)| match column.kind {
        ColumnType::DateTime { scale } => {
            let digits = HashMap::from([(FRACTION.to_owned(), scale.to_string())]);
            Arc::new(field.as_ref().clone().with_metadata(digits))
        }
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The partition columns with their types.
fn key_columns(table: &Table) -> Vec<KeyColumn<'_>> {
    let column = |name: &String| {
        let position = table.schema.index_of(name)?;
        Some((table.schema.columns[position].name.as_str(), table.schema.columns[position].kind))
    };
    table.partition_columns.iter().filter_map(column).collect::<Vec<(&str, ColumnType)>>()
}

#[async_trait]
impl TableProvider for CofferTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let columns = key_columns(&self.pinned.table);
        let answer = |filter: &&Expr| {
            if is_useful(&columns, filter) {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = &self.pinned.table;
        let allowed = Allowed::new(&key_columns(table), filters);
        let total = table.partitions.len();
        let tablets = self.pinned.reads(|partition| allowed.may_hold(partition.range.as_ref()));
        let rows = self.rows(&tablets);
        let holds = |part: &&Partition| self.pinned.includes(part) && allowed.may_hold(part.range.as_ref());
        let chosen = table.partitions.values().filter(holds).count();
        let count = tablets.len();
        let source = Arc::clone(&self.source);
        let standing = |tablet: &TabletRead, backend| {
            let reported = source.reported(tablet.tablet, backend);
            match reported {
                _ if !source.alive(backend) => Standing::Dead,
                Some(seen) if seen.version < tablet.version => Standing::Behind,
                _ => Standing::Good,
            }
        };
        let streams = assign(tablets, standing, state.config().target_partitions());
        let spec = ScanSpec {
            table: table.id,
            table_name: table.name.clone(),
            schema: project_schema(&self.schema, projection)?,
            limit,
            addresses: Arc::clone(&self.pinned.addresses),
        };
        let shown = format!("partitions={chosen}/{total}, tablets={count}");
        Ok(Arc::new(ScanExec::new(Arc::clone(&self.source), spec, streams, Facts { rows, shown })))
    }
}

/// What is known of a scan beforehand.
#[derive(Debug)]
struct Facts {
    rows: Option<usize>,
    shown: String,
}

/// Reads lists of tablets, one output partition per list.
#[derive(Debug)]
struct ScanExec {
    source: Arc<dyn Source>,
    spec: Arc<ScanSpec>,
    streams: Vec<Vec<TabletRead>>,
    facts: Facts,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    fn new(source: Arc<dyn Source>, spec: ScanSpec, streams: Vec<Vec<TabletRead>>, facts: Facts) -> ScanExec {
        // A table without rows is still one, empty, stream.
        let streams = if streams.is_empty() { vec![Vec::new()] } else { streams };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&spec.schema)),
            Partitioning::UnknownPartitioning(streams.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        ScanExec { source, spec: Arc::new(spec), streams, facts, properties: Arc::new(properties) }
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.spec.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (table, shown) = (&self.spec.table_name, &self.facts.shown);
        write!(
            f,
            "ScanExec: table={table}, {shown}, streams={}, columns=[{}]",
            self.streams.len(),
            columns.join(", ")
        )?;
        match self.spec.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(tablets) = self.streams.get(partition).cloned() else {
            return internal_err!("scan of table '{}' has no stream {partition}", self.spec.table_name);
        };
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.spec.schema), READ_AHEAD);
        let (sender, mut batches) =
            (builder.tx(), Box::pin(read(Arc::clone(&self.source), Arc::clone(&self.spec), tablets)));
        builder.spawn(async move {
            while let Some(batch) = batches.next().await {
                if sender.send(batch.map_err(to_engine)).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(builder.build())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.spec.schema);
        if let Some(rows) = self.facts.rows {
            statistics.num_rows = Precision::Inexact(rows / self.streams.len().max(1));
        }
        Ok(Arc::new(statistics))
    }
}
