//! Arrow batches between processes: one IPC stream with one batch per message, of bounded size.

use crate::limits::BATCH_BYTES;
use crate::tablet::rowset::from_arrow;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_stdx::{Error, Result};
use coffer_table::Schema;
use coffer_table::text::Misfit;

/// Size of the rows of a batch. It depends on the values alone, not on how buffers are shared or cut, so all replicas
/// that get the same rows count the same.
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    let rows = batch.num_rows();
    let column = |column: &ArrayRef| match column.as_string_opt::<i32>() {
        Some(texts) => {
            let offsets = texts.value_offsets();
            rows * 4 + (offsets[rows] - offsets[0]) as usize
        }
        None => rows * column.data_type().primitive_width().unwrap_or(1),
    };
    batch.columns().iter().map(column).sum()
}

/// Cut a batch so that each part fits into a message.
pub fn cut(batch: RecordBatch) -> Vec<RecordBatch> {
    let (rows, bytes) = (batch.num_rows(), batch_bytes(&batch));
    if bytes <= BATCH_BYTES || rows <= 1 {
        return vec![batch];
    }
    let middle = rows / 2;
    let mut parts = cut(batch.slice(0, middle));
    parts.extend(cut(batch.slice(middle, rows - middle)));
    parts
}

/// One batch as a message.
pub fn encode(batch: &RecordBatch) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(batch_bytes(batch) + 4_096);
    let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref()).map_err(from_arrow)?;
    writer.write(batch).and_then(|()| writer.finish()).map_err(from_arrow)?;
    drop(writer);
    if bytes.len() >= MAX_MESSAGE_BYTES {
        return Err(Error::limit(format!("a row of {} bytes; at most {MAX_MESSAGE_BYTES} are supported", bytes.len())));
    }
    Ok(bytes.into())
}

/// Read the batches of a message; each must have the columns of `schema`, and NULLs only where it allows them.
pub fn decode(message: &Bytes, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let broken = |error: arrow::error::ArrowError| Error::invalid(format!("a batch of rows cannot be read: {error}"));
    // Decodes in place and never reserves more than the message has, whatever lengths it claims.
    let (mut decoder, mut rest) = (StreamDecoder::new(), Buffer::from(message.clone()));
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut rest).map_err(broken)? {
        check_types(&batch, schema)?;
        let (_, columns, _) = batch.into_parts();
        batches.push(RecordBatch::try_new(schema.clone(), columns).map_err(|error| Error::invalid(error.to_string()))?);
    }
    decoder.finish().map_err(broken)?;
    if decoder.schema().is_none() {
        return Err(Error::invalid("a batch of rows is empty: not even columns are named"));
    }
    Ok(batches)
}

fn check_types(batch: &RecordBatch, schema: &SchemaRef) -> Result<()> {
    let types = |schema: &SchemaRef| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    if types(batch.schema_ref()) == types(schema) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a batch has the columns {}, the table has {}",
        names(batch.schema_ref()),
        names(schema)
    )))
}

fn names(schema: &SchemaRef) -> String {
    let fields: Vec<String> =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    fields.join(", ")
}

/// The first text that is longer than its column in each row that has one: (row, column).
pub fn too_long(batch: &RecordBatch, schema: &Schema) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (number, column) in schema.columns.iter().enumerate() {
        let (Some(limit), Some(texts)) = (column.kind.max_bytes(), batch.column(number).as_string_opt::<i32>()) else {
            continue;
        };
        for (row, window) in texts.value_offsets().windows(2).enumerate() {
            if window[1] - window[0] > limit as i32 && texts.is_valid(row) {
                found.push((row, number));
            }
        }
    }
    found.sort_unstable();
    found.dedup_by_key(|(row, _)| *row);
    found
}

/// Refuse a batch with a text that is longer than its column.
pub fn check_lengths(batch: &RecordBatch, schema: &Schema) -> Result<()> {
    let Some((row, column)) = too_long(batch, schema).into_iter().next() else { return Ok(()) };
    let text = batch.column(column).as_string::<i32>().value(row);
    Err(Error::invalid(Misfit::TooLong.describe(schema, column, Some(text.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::{batch, schema};
    use coffer_table::ColumnType;

    #[test]
    fn a_batch_survives_the_wire_and_a_foreign_one_is_refused() {
        let rows = batch(&[1, 2, 3]).slice(1, 2);
        let message = encode(&rows).unwrap();
        assert_eq!(decode(&message, &schema().arrow()).unwrap(), [rows]);
        let mut other = schema();
        other.columns[0].kind = ColumnType::BigInt;
        let error = decode(&message, &other.arrow()).unwrap_err();
        assert!(error.message().contains("Int32") && error.message().contains("Int64"), "{error}");
        let cut_off = message.slice(..message.len() / 2);
        for broken in [Bytes::from_static(b"nonsense"), Bytes::new(), cut_off] {
            assert!(decode(&broken, &schema().arrow()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn large_batches_are_cut_and_keep_their_rows() {
        let ids: Vec<i32> = (0..600_000).collect();
        let whole = batch(&ids);
        let parts = cut(whole.clone());
        assert!(parts.len() > 1 && parts.iter().all(|part| batch_bytes(part) <= BATCH_BYTES));
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 600_000);
        assert_eq!(cut(batch(&[1])).len(), 1);
        // 4 bytes of the id, 4 of the offset, 2 of "n1".
        assert_eq!((batch_bytes(&batch(&[1])), batch_bytes(&batch(&[10, 1]).slice(1, 1))), (10, 10));
    }

    #[test]
    fn long_texts_are_found() {
        let mut narrow = schema();
        narrow.columns[1].kind = ColumnType::Varchar { length: 2 };
        assert_eq!(too_long(&batch(&[1, 100, 2, 30]), &narrow), [(1, 1), (3, 1)]);
        assert!(check_lengths(&batch(&[100]), &narrow).unwrap_err().message().contains("4 bytes, 2 are allowed"));
        assert!(check_lengths(&batch(&[100]), &schema()).is_ok());
    }
}
