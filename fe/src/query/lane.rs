//! Threads for queries alone, so that a query that computes for an hour leaves the rest of the process (the metadata log,
//! heartbeats, other clients) its own threads.
//!
//! A query runs as a task of these threads and hands its batches over a short channel; a client that does not read makes
//! it wait. Dropping the receiving end ends the task at the next point where it yields, and [`YieldOften`] sees to it that
//! there always is one: joins can make endless output from an input that was read long ago, so they yield by themselves.

use crate::error::{Error, Result};
use crate::limits;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Batches that wait for the client.
const BATCHES_AHEAD: usize = 2;

/// The threads of queries. Dropping it cuts off what still runs there.
#[derive(Debug)]
pub(super) struct Lane {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Lane {
    /// As many threads as there are cores.
    pub(super) fn new() -> Result<Lane> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("query")
            .thread_stack_size(limits::THREAD_STACK_BYTES)
            .build()
            .map_err(|error| Error::limit(format!("start the threads of queries: {error}")))?;
        Ok(Lane { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to plan and start queries.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Let a query run; its batches come from the answer.
    pub(super) fn run(&self, mut batches: SendableRecordBatchStream) -> Running {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let schema = batches.schema();
        let task = self.handle.spawn(async move {
            while let Some(batch) = batches.next().await {
                if sender.send(Some(batch)).await.is_err() {
                    return;
                }
            }
            // Nobody waits for the end any more only when the client has gone.
            let _ = sender.send(None).await;
        });
        Running { schema, receiver, task: task.abort_handle(), ended: false }
    }

    /// Tasks that still run.
    #[cfg(test)]
    pub(super) fn tasks(&self) -> usize {
        self.handle.metrics().num_alive_tasks()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A query that runs in the lane. Dropping it ends the query.
pub(super) struct Running {
    schema: SchemaRef,
    /// `None` says that the last batch was sent: a channel that just closes is a task that died.
    receiver: mpsc::Receiver<Option<EngineResult<RecordBatch>>>,
    task: AbortHandle,
    ended: bool,
}

impl Running {
    /// The Arrow schema of the batches.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Stream for Running {
    type Item = EngineResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Some(batch))) => Poll::Ready(Some(batch)),
            Poll::Ready(Some(None)) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(None) => {
                self.ended = true;
                let text = "the task of the query ended without an answer".to_owned();
                Poll::Ready(Some(Err(DataFusionError::Internal(text))))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Lets joins yield to other tasks every few batches.
#[derive(Debug)]
pub(super) struct YieldOften;

impl PhysicalOptimizerRule for YieldOften {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let wrap = |plan: Arc<dyn ExecutionPlan>| {
            let join = plan.is::<CrossJoinExec>()
                || plan.is::<NestedLoopJoinExec>()
                || plan.is::<HashJoinExec>()
                || plan.is::<SortMergeJoinExec>();
            Ok(if join { Transformed::yes(Arc::new(CooperativeExec::new(plan)) as _) } else { Transformed::no(plan) })
        };
        plan.transform_up(wrap).data()
    }

    fn name(&self) -> &'static str {
        "YieldOften"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
