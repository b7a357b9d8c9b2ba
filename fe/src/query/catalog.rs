//! Pinned tables as the engine looks them up: one catalog, a schema per database, and `information_schema`.

use super::pin::{Pinned, PinnedTable};
use super::source::Source;
use super::system::{INFORMATION_SCHEMA, System};
use super::table::CofferTable;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name of the one catalog.
pub(crate) const CATALOG: &str = "internal";

/// Views that were planned for a statement, by database and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct ViewSlots {
    planned: Arc<Mutex<Planned>>,
}

type Planned = BTreeMap<(String, String), Arc<dyn TableProvider>>;

impl ViewSlots {
    fn lock(&self) -> MutexGuard<'_, Planned> {
        // Nothing panics while it holds the lock.
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view that is planned.
    pub(crate) fn put(&self, database: &str, view: &str, planned: Arc<dyn TableProvider>) {
        self.lock().insert((database.to_owned(), view.to_owned()), planned);
    }

    fn get(&self, database: &str, view: &str) -> Option<Arc<dyn TableProvider>> {
        self.lock().get(&(database.to_owned(), view.to_owned())).cloned()
    }
}

/// All databases of a statement.
#[derive(Debug)]
pub(crate) struct Catalog {
    databases: BTreeMap<String, Arc<Database>>,
    system: Arc<System>,
}

#[derive(Debug)]
struct Database {
    name: String,
    tables: BTreeMap<String, PinnedTable>,
    views: ViewSlots,
    source: Arc<dyn Source>,
}

impl Catalog {
    pub(crate) fn new(pinned: Pinned, source: &Arc<dyn Source>, views: &ViewSlots) -> Catalog {
        let database = |name: &String, tables: &BTreeMap<_, _>| {
            let (tables, views) = (tables.clone(), views.clone());
            Arc::new(Database { name: name.clone(), tables, views, source: Arc::clone(source) })
        };
        let databases = pinned.databases.iter().map(|(name, tables)| (name.clone(), database(name, tables))).collect();
        Catalog { databases, system: Arc::new(System::new(Arc::new(pinned))) }
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.databases.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == INFORMATION_SCHEMA {
            return Some(Arc::clone(&self.system) as _);
        }
        self.databases.get(name).map(|database| Arc::clone(database) as _)
    }
}

#[async_trait]
impl SchemaProvider for Database {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(view) = self.views.get(&self.name, name) {
            return Ok(Some(view));
        }
        let pinned = self.tables.get(name).filter(|pinned| pinned.readable).cloned();
        Ok(pinned.map(|pinned| Arc::new(CofferTable::new(pinned, Arc::clone(&self.source))) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name) || self.views.get(&self.name, name).is_some()
    }
}
