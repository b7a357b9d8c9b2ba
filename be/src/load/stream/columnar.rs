//! Parquet files into batches of whole rows. Columns are matched by name. Values whose type differs from the column's are
//! converted, and count only when converting them back gives the same value again; other rows are left out.

use super::options::Options;
use super::text::{Source, sources};
use crate::limits::SCAN_BATCH_ROWS;
use crate::load::batches::too_long;
use crate::load::rejects::Rejects;
use crate::tablet::rowset::from_arrow;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, take};
use arrow::datatypes::{DataType, SchemaRef};
use coffer_stdx::{Error, Result};
use coffer_table::text::Misfit;
use coffer_table::{BatchBuilder, Column, ColumnType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::sync::Arc;

const CAST: CastOptions<'static> =
    CastOptions { safe: true, format_options: arrow::util::display::FormatOptions::new() };

/// Read a whole file; batches go to `emit`. Returns all rows and those left out.
pub fn read(
    file: File,
    schema: &Arc<Schema>,
    options: &Options,
    mut emit: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<(u64, Rejects)> {
    let broken = |error: parquet::errors::ParquetError| Error::invalid(format!("not a readable Parquet file: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(broken)?;
    let columns = FileColumns::new(schema, builder.schema(), options)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.wanted.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(SCAN_BATCH_ROWS).build().map_err(broken)?;
    let (mut total, mut rejects) = (0, Rejects::default());
    for batch in reader {
        let batch = batch.map_err(|error| Error::invalid(format!("not a readable Parquet file: {error}")))?;
        let first = total;
        total += batch.num_rows() as u64;
        let rows = columns.convert(schema, &batch, first, &mut rejects)?;
        if rows.num_rows() > 0 {
            emit(rows)?;
        }
    }
    Ok((total, rejects))
}

struct FileColumns {
    /// Columns of the file that are read, ascending.
    wanted: Vec<usize>,
    /// For each table column: the position in `wanted`, or the one value that all rows have.
    sources: Vec<Result<usize, ArrayRef>>,
}

impl FileColumns {
    fn new(schema: &Schema, file: &SchemaRef, options: &Options) -> Result<FileColumns> {
        let names: Vec<String> = file.fields().iter().map(|field| field.name().clone()).collect();
        let listed = options.columns.as_ref();
        if let Some(missing) = listed
            .and_then(|listed| listed.iter().find(|name| !names.iter().any(|known| known.eq_ignore_ascii_case(name))))
        {
            return Err(Error::invalid(format!("the file has no column '{missing}'; it has {}", names.join(", "))));
        }
        let usable = |name: &String| listed.is_none_or(|l| l.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)));
        // Columns that are not listed must not match by name.
        let names: Vec<String> =
            names.into_iter().map(|name| if usable(&name) { name } else { String::new() }).collect();
        let found = sources(schema, &names, &options.assigned)?;
        let mut wanted: Vec<usize> =
            found.iter().filter_map(|source| if let Source::Field(at) = source { Some(*at) } else { None }).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let defaults = defaults(schema, &found)?;
        let mut positions = Vec::with_capacity(found.len());
        for ((column, source), default) in schema.columns.iter().zip(found).zip(defaults.columns()) {
            positions.push(match source {
                Source::Field(at) => {
                    check_family(column, file.field(at).data_type())?;
                    // It was collected from the same list.
                    Ok(wanted.binary_search(&at).unwrap_or_default())
                }
                Source::Default(_) => Err(default.clone()),
            });
        }
        Ok(FileColumns { wanted, sources: positions })
    }

    fn convert(&self, schema: &Schema, batch: &RecordBatch, first: u64, rejects: &mut Rejects) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        // The first column that refuses each row, and why.
        let mut refused: Vec<Option<(usize, Misfit)>> = vec![None; rows];
        let mut arrays = Vec::with_capacity(schema.columns.len());
        for (number, (column, source)) in schema.columns.iter().zip(&self.sources).enumerate() {
            let array = match source {
                Ok(at) => {
                    let (array, exact) = convert(batch.column(*at), column)?;
                    for row in (0..rows).filter(|row| !exact.value(*row)) {
                        refused[row].get_or_insert((number, Misfit::Value));
                    }
                    array
                }
                Err(default) => {
                    let zeros = arrow::array::UInt32Array::from(vec![0; rows]);
                    take(default, &zeros, None).map_err(from_arrow)?
                }
            };
            if !column.nullable {
                for row in (0..rows).filter(|row| array.is_null(*row)) {
                    refused[row].get_or_insert((number, Misfit::Null));
                }
            }
            arrays.push(array);
        }
        let fields = schema.arrow();
        let nullable: Vec<_> = fields.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let whole =
            RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(nullable)), arrays).map_err(from_arrow)?;
        for (row, column) in too_long(&whole, schema) {
            refused[row].get_or_insert((column, Misfit::TooLong));
        }
        for (row, refusal) in refused.iter().enumerate() {
            if let Some((column, misfit)) = refusal {
                rejects.add(|| {
                    reason(schema, batch, self.sources[*column].as_ref().ok(), (row, first), (*column, *misfit))
                });
            }
        }
        let kept = BooleanArray::from(refused.iter().map(Option::is_none).collect::<Vec<bool>>());
        let kept = filter_record_batch(&whole, &kept).map_err(from_arrow)?;
        let (_, columns, _) = kept.into_parts();
        RecordBatch::try_new(fields, columns).map_err(from_arrow)
    }
}

fn reason(
    schema: &Schema,
    batch: &RecordBatch,
    source: Option<&usize>,
    (row, first): (usize, u64),
    (column, misfit): (usize, Misfit),
) -> String {
    let shown =
        source.map(|at| arrow::util::display::array_value_to_string(batch.column(*at), row).unwrap_or_default());
    let why = misfit.describe(schema, column, shown.as_deref().map(str::as_bytes));
    format!("Reason: {why}. row {} of the file;", first + row as u64 + 1)
}

/// One row with the defaults of the columns that the file does not have; NULL elsewhere.
fn defaults(schema: &Schema, sources: &[Source]) -> Result<RecordBatch> {
    let columns = schema.columns.iter().map(|column| Column { nullable: true, ..column.clone() }).collect();
    let open = Schema { columns, model: coffer_table::Model::Duplicate };
    let mut builder = BatchBuilder::new(&open);
    for (number, source) in sources.iter().enumerate() {
        let text = if let Source::Default(text) = source { text.as_deref() } else { None };
        builder.push(number, text.map(str::as_bytes)).map_err(|misfit| {
            Error::invalid(format!("default of {}", misfit.describe(schema, number, text.map(str::as_bytes))))
        })?;
    }
    builder.end_row();
    builder.finish()
}

fn check_family(column: &Column, found: &DataType) -> Result<()> {
    let fits = match column.kind {
        ColumnType::Boolean => *found == DataType::Boolean,
        kind if kind.is_numeric() => found.is_numeric(),
        ColumnType::Date | ColumnType::DateTime { .. } => {
            matches!(found, DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None))
        }
        // Text.
        _ => match found {
            DataType::Dictionary(_, values) => is_text(values),
            other => is_text(other),
        },
    };
    if fits || *found == DataType::Null {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "column '{}' is {}, the file's column of that name is {found}",
        column.name, column.kind
    )))
}

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    )
}

/// The values in the column's type, and which of them are exactly the file's.
fn convert(array: &ArrayRef, column: &Column) -> Result<(ArrayRef, BooleanArray)> {
    let (from, to) = (array.data_type(), column.kind.arrow());
    let all = || BooleanArray::from(vec![true; array.len()]);
    if *from == DataType::Null {
        return Ok((new_null_array(&to, array.len()), all()));
    }
    let converted =
        if *from == to { array.clone() } else { cast_with_options(array, &to, &CAST).map_err(from_arrow)? };
    let scaled = match column.kind {
        ColumnType::DateTime { scale } => Some(whole_digits(&converted, scale)),
        _ => None,
    };
    let exact = if *from == to {
        all()
    } else if is_text(from) || matches!(from, DataType::Dictionary(_, _)) {
        // A text either converts as it is or, when it is not UTF-8, not at all.
        BooleanArray::from(
            (0..array.len()).map(|row| converted.is_valid(row) == array.is_valid(row)).collect::<Vec<_>>(),
        )
    } else {
        let back = cast_with_options(&converted, from, &CAST).map_err(from_arrow)?;
        not_distinct(&back, array).map_err(from_arrow)?
    };
    match scaled {
        Some(scaled) => Ok((converted, arrow::compute::and(&exact, &scaled).map_err(from_arrow)?)),
        None => Ok((converted, exact)),
    }
}

/// Which times have no more digits of a second than `scale`.
fn whole_digits(array: &ArrayRef, scale: u8) -> BooleanArray {
    use arrow::array::AsArray;
    let unit = 10_i64.pow(u32::from(6 - scale.min(6)));
    let Some(times) = array.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>() else {
        return BooleanArray::from(vec![true; array.len()]);
    };
    BooleanArray::from(times.iter().map(|time| time.is_none_or(|time| time % unit == 0)).collect::<Vec<bool>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::schema;
    use arrow::array::{Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::Field;
    use arrow::util::pretty::pretty_format_batches;
    use parquet::arrow::ArrowWriter;

    fn load(
        schema: Schema,
        headers: &[(&str, &str)],
        columns: Vec<(&str, ArrayRef)>,
    ) -> Result<(u64, Rejects, String)> {
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), arrays).unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let options =
            Options::parse(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()))?;
        let mut batches = Vec::new();
        let (total, rejects) = read(file, &Arc::new(schema), &options, |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok((total, rejects, pretty_format_batches(&batches).unwrap().to_string()))
    }

    fn ids(values: Vec<Option<i64>>) -> ArrayRef {
        Arc::new(Int64Array::from(values))
    }

    fn names(values: Vec<Option<&str>>) -> ArrayRef {
        Arc::new(StringArray::from(values))
    }

    #[test]
    fn values_convert_when_they_survive_it() {
        let columns = vec![
            ("NAME", names(vec![Some("a"), None, Some("twenty characters and more"), Some("d")])),
            ("id", ids(vec![Some(1), Some(2), Some(3), Some(1 << 40)])),
        ];
        let (total, rejects, rows) = load(schema(), &[], columns).unwrap();
        assert_eq!((total, rejects.count()), (4, 2));
        assert!(rows.contains("| 1  | a") && rows.contains("| 2  |") && !rows.contains("| 3"), "{rows}");
        assert!(rejects.text().contains("'1099511627776' is not a value of type int. row 4"), "{}", rejects.text());
        assert!(rejects.text().contains("26 bytes, 20 are allowed"));
    }

    #[test]
    fn nulls_and_missing_columns() {
        let (_, rejects, _) = load(schema(), &[], vec![("id", ids(vec![None]))]).unwrap();
        assert!(rejects.first().unwrap().contains("NULL is not allowed"));
        let error = load(schema(), &[], vec![("name", names(vec![Some("a")]))]).unwrap_err();
        assert!(error.message().contains("column 'id'"), "{error}");
        let both = || vec![("id", ids(vec![Some(1)])), ("name", names(vec![Some("a")]))];
        let (_, _, rows) = load(schema(), &[("columns", "id")], both()).unwrap();
        assert!(!rows.contains('a') || !rows.contains("| a"), "{rows}");
        assert!(load(schema(), &[("columns", "id,x")], both()).unwrap_err().message().contains("no column 'x'"));
    }

    #[test]
    fn families_do_not_mix_and_digits_are_not_lost() {
        let error = load(schema(), &[], vec![("id", names(vec![Some("1")]))]).unwrap_err();
        assert!(error.message().contains("column 'id' is int"), "{error}");
        let mut wide = schema();
        wide.columns[0].kind = ColumnType::Decimal { precision: 6, scale: 2 };
        wide.columns[1].kind = ColumnType::DateTime { scale: 0 };
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.25, 1.255, 3.0]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_000, 2_000, 3_001]));
        let (total, rejects, rows) = load(wide, &[], vec![("id", floats), ("name", times)]).unwrap();
        assert_eq!((total, rejects.count()), (3, 2), "{rows}\n{}", rejects.text());
        assert!(rows.contains("1.25") && rows.contains("1970-01-01T00:00:01"), "{rows}");
    }

    #[test]
    fn garbage_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let options = Options::parse(|_| None).unwrap();
        let error = read(file, &Arc::new(schema()), &options, |_| Ok(())).unwrap_err();
        assert!(error.message().contains("not a readable Parquet file"), "{error}");
    }
}
