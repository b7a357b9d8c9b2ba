//! Pinned tables as the engine looks them up: one catalog, a schema per database, and `information_schema`.

use super::pin::{Pinned, PinnedTable};
use super::source::Source;
use super::system::{INFORMATION_SCHEMA, System};
use super::table::CofferTable;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the one catalog.
pub(crate) const CATALOG: &str = "internal";

/// All databases of a statement.
#[derive(Debug)]
pub(crate) struct Catalog {
    databases: BTreeMap<String, Arc<Database>>,
    system: Arc<System>,
}

#[derive(Debug)]
struct Database {
    tables: BTreeMap<String, PinnedTable>,
    source: Arc<dyn Source>,
}

impl Catalog {
    pub(crate) fn new(pinned: Pinned, source: &Arc<dyn Source>) -> Catalog {
        let database =
            |tables: &BTreeMap<_, _>| Arc::new(Database { tables: tables.clone(), source: Arc::clone(source) });
        let databases = pinned.databases.iter().map(|(name, tables)| (name.clone(), database(tables))).collect();
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
        let pinned = self.tables.get(name).filter(|pinned| pinned.readable).cloned();
        Ok(pinned.map(|pinned| Arc::new(CofferTable::new(pinned, Arc::clone(&self.source))) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
