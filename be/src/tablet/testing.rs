//! Small tables for tests.

use crate::tablet::{LoadWriter, Publish, PublishTablet, TabletStore, rowset};
use arrow::array::{Int32Array, RecordBatch, StringArray};
use coffer_table::{Column, ColumnType, Predicate, Schema};
use std::sync::Arc;

/// Two columns: `id INT` (key) and `name VARCHAR(20)`.
pub(crate) fn schema() -> Schema {
    let column = |name: &str, kind: ColumnType, key: bool| Column {
        name: name.to_owned(),
        kind,
        nullable: !key,
        default: None,
        key,
        comment: String::new(),
        aggregate: None,
    };
    Schema {
        model: coffer_table::Model::Duplicate,
        columns: vec![column("id", ColumnType::Int, true), column("name", ColumnType::Varchar { length: 20 }, false)],
    }
}

/// Rows with these ids; the name is "n<id>".
pub(crate) fn batch(ids: &[i32]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    RecordBatch::try_new(
        schema().arrow(),
        vec![Arc::new(Int32Array::from(ids.to_vec())), Arc::new(StringArray::from(names))],
    )
    .unwrap()
}

/// A load that makes this version of a tablet.
pub(crate) fn load(
    store: &Arc<TabletStore>,
    (tablet_id, version): (u64, u64),
    schema: &Schema,
    batches: &[RecordBatch],
) {
    let transaction_id = tablet_id * 1_000_000 + version;
    let mut writer = LoadWriter::begin(store, transaction_id).unwrap();
    let dir = writer.dir(tablet_id).unwrap();
    writer.add(tablet_id, rowset::write_file(&dir, schema, batches).unwrap());
    writer.finish().unwrap();
    let tablets = vec![PublishTablet { tablet_id, partition_id: 2, version, rows_expected: true }];
    let publish = Publish { transaction_id, table_id: 1, schema: schema.clone(), delete: None, tablets };
    assert!(store.publish(&publish).is_empty());
}

/// A DELETE that makes this version of a tablet.
pub(crate) fn delete(
    store: &Arc<TabletStore>,
    (tablet_id, version): (u64, u64),
    schema: &Schema,
    predicate: Predicate,
) {
    let transaction_id = tablet_id * 1_000_000 + version;
    let tablets = vec![PublishTablet { tablet_id, partition_id: 2, version, rows_expected: false }];
    let publish = Publish { transaction_id, table_id: 1, schema: schema.clone(), delete: Some(predicate), tablets };
    assert!(store.publish(&publish).is_empty());
}
