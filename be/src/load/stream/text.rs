//! Records of a text file into batches of whole rows. Records that do not fit are left out and counted.

use super::csv::{Reader, Record};
use super::options::{Assigned, Options};
use crate::limits::{PARSE_BYTES, PARSE_ROWS};
use crate::load::rejects::{Rejects, with_line};
use arrow::array::RecordBatch;
use coffer_stdx::{Error, Result, time};
use coffer_table::text::Misfit;
use coffer_table::{BatchBuilder, Schema};
use std::sync::Arc;

/// Where the values of a table column come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A field of the file, by position.
    Field(usize),
    /// The column's DEFAULT, or what the load gives all rows; `None` is NULL.
    Default(Option<String>),
}

/// The source of each table column when the file has these columns. Names that the table does not have are skipped;
/// `assigned` columns take something else.
pub fn sources(schema: &Schema, file_columns: &[String], assigned: &[(String, Assigned)]) -> Result<Vec<Source>> {
    let known = |name: &&String| schema.index_of(name).is_some();
    if assigned.is_empty() && !file_columns.iter().any(|name| known(&name)) {
        return Err(Error::invalid(format!("columns '{}' names no column of the table", file_columns.join(", "))));
    }
    if let Some((unknown, _)) = assigned.iter().find(|(name, _)| !known(&name)) {
        return Err(Error::invalid(format!("columns sets '{unknown}', which is no column of the table")));
    }
    let place = |wanted: &str| file_columns.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    let now_us = i64::try_from(time::now_ms()).unwrap_or(0) * 1_000;
    let other = |column: &coffer_table::Column| {
        let found = assigned.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
        found.map(|(_, from)| from)
    };
    let source = |column: &coffer_table::Column| match (other(column), place(&column.name)) {
        (Some(Assigned::Constant(value)), _) => Ok(Source::Default(value.clone())),
        (Some(Assigned::Copy(from)), _) => place(from).map(Source::Field).ok_or_else(|| {
            Error::invalid(format!("column '{}' takes '{from}', which is not in the file", column.name))
        }),
        (None, Some(position)) => Ok(Source::Field(position)),
        (None, None) if column.default.is_some() || column.nullable => Ok(Source::Default(column.default_at(now_us))),
        (None, None) => Err(Error::invalid(format!(
            "column '{}' is not in the file and has neither a default nor NULL",
            column.name
        ))),
    };
    schema.columns.iter().map(source).collect()
}

/// How a record becomes a row.
#[derive(Debug)]
pub(super) struct Rules {
    sources: Vec<Source>,
    /// Fields of a record.
    width: usize,
    /// A value that does not fit becomes NULL where that is allowed.
    lenient: bool,
    /// Columns for which an empty field is NULL: numbers, dates and times that may be NULL.
    blank_is_null: Vec<bool>,
}

impl Rules {
    /// For records whose fields have these names.
    pub(super) fn new(schema: &Schema, options: &Options, names: &[String]) -> Result<Rules> {
        let blank =
            |column: &coffer_table::Column| column.nullable && !column.kind.is_text() && options.strict != Some(true);
        Ok(Rules {
            sources: sources(schema, names, &options.assigned)?,
            width: names.len(),
            lenient: options.strict == Some(false),
            blank_is_null: schema.columns.iter().map(blank).collect(),
        })
    }
}

/// The DEFAULT of a column for rows loaded now, by name.
pub(super) fn default_of(schema: &Schema, name: &str) -> Option<String> {
    let now_us = i64::try_from(time::now_ms()).unwrap_or(0) * 1_000;
    schema.index_of(name).and_then(|at| schema.columns[at].default_at(now_us))
}

/// Turns one file into batches.
#[derive(Debug)]
pub struct TextParser {
    reader: Reader,
    schema: Arc<Schema>,
    builder: BatchBuilder,
    rules: Rules,
    total: u64,
    rejects: Rejects,
}

impl TextParser {
    /// For a file as the options say.
    pub fn new(schema: Arc<Schema>, options: &Options) -> Result<TextParser> {
        let file_columns = options
            .columns
            .clone()
            .unwrap_or_else(|| schema.columns.iter().map(|column| column.name.clone()).collect());
        Ok(TextParser {
            reader: Reader::new(options.shape.clone()),
            builder: BatchBuilder::new(&schema),
            rules: Rules::new(&schema, options, &file_columns)?,
            schema,
            total: 0,
            rejects: Rejects::default(),
        })
    }

    /// More of the file; full batches go to `emit`.
    pub fn feed(&mut self, chunk: &[u8], emit: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        self.reader.feed(chunk);
        self.drain(emit)
    }

    /// The end of the file; the last batch goes to `emit`. Returns all rows and those left out.
    pub fn finish(mut self, mut emit: impl FnMut(RecordBatch) -> Result<()>) -> Result<(u64, Rejects)> {
        self.reader.finish();
        self.drain(&mut emit)?;
        if self.builder.rows() > 0 {
            emit(self.builder.finish()?)?;
        }
        Ok((self.total, self.rejects))
    }

    fn drain(&mut self, mut emit: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let mut looked = 0;
        while let Some(record) = self.reader.next_record()? {
            self.total += 1;
            match row(&mut self.builder, &record, &self.rules) {
                Ok(()) => self.builder.end_row(),
                Err(refusal) => {
                    self.builder.abandon_row();
                    self.rejects.add(|| with_line(&refusal.describe(&self.schema, |at| record.field(at)), record.line));
                }
            }
            looked += 1;
            // Counting bytes costs more than counting rows.
            if self.builder.rows() >= PARSE_ROWS || (looked % 64 == 0 && self.builder.bytes() >= PARSE_BYTES) {
                emit(self.builder.finish()?)?;
            }
        }
        Ok(())
    }
}

/// Why a record is left out.
pub(super) enum Refusal {
    Width { found: usize, wanted: usize },
    Field { column: usize, source: Option<usize>, misfit: Misfit },
}

impl Refusal {
    /// One sentence for people; `field` gives the fields of the record.
    pub(super) fn describe<'f>(&self, schema: &Schema, field: impl Fn(usize) -> Option<&'f [u8]>) -> String {
        match self {
            Refusal::Width { found, wanted } => {
                let relation = if found < wanted { "less" } else { "more" };
                format!(
                    "actual column number in CSV file is {relation} than schema column number: {found}, expected {wanted}"
                )
            }
            Refusal::Field { column, source, misfit } => misfit.describe(schema, *column, source.and_then(field)),
        }
    }
}

fn row(builder: &mut BatchBuilder, record: &Record<'_>, rules: &Rules) -> Result<(), Refusal> {
    if record.width() != rules.width {
        return Err(Refusal::Width { found: record.width(), wanted: rules.width });
    }
    push_row(builder, rules, |at| record.field(at))
}

/// Give the current row its values; the caller ends or abandons it.
pub(super) fn push_row<'f>(
    builder: &mut BatchBuilder,
    rules: &Rules,
    field_of: impl Fn(usize) -> Option<&'f [u8]>,
) -> Result<(), Refusal> {
    for (column, source) in rules.sources.iter().enumerate() {
        let blank = |text: &&[u8]| rules.blank_is_null[column] && text.trim_ascii().is_empty();
        let (field, text) = match source {
            Source::Field(field) => (Some(*field), field_of(*field).filter(|text| !blank(text))),
            Source::Default(default) => (None, default.as_deref().map(str::as_bytes)),
        };
        if let Err(misfit) = builder.push(column, text) {
            // In lenient mode the value becomes NULL, unless the column refuses that too.
            if !(rules.lenient && misfit != Misfit::Null && builder.push(column, None).is_ok()) {
                return Err(Refusal::Field { column, source: field, misfit });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::schema;
    use arrow::array::Array;
    use arrow::util::pretty::pretty_format_batches;

    fn parse(headers: &[(&str, &str)], text: &str) -> Result<(u64, Rejects, String)> {
        let options =
            Options::parse(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()))?;
        let mut schema = schema();
        schema.columns[1].default = Some("none".to_owned());
        let mut parser = TextParser::new(Arc::new(schema), &options)?;
        let mut batches = Vec::new();
        let mut emit = |batch| {
            batches.push(batch);
            Ok(())
        };
        parser.feed(text.as_bytes(), &mut emit)?;
        let (total, rejects) = parser.finish(&mut emit)?;
        Ok((total, rejects, pretty_format_batches(&batches).unwrap().to_string()))
    }

    #[test]
    fn rows_that_do_not_fit_are_counted_and_explained() {
        let (total, rejects, rows) =
            parse(&[], "1\ta\nx\tb\n2\n3\tc\td\n\\N\te\n4\t\\N\n5\ttwenty characters and more\n").unwrap();
        assert_eq!((total, rejects.count()), (7, 5));
        assert!(rows.contains("| 1  | a") && rows.contains("| 4  |") && !rows.contains("| 3"), "{rows}");
        let text = rejects.text();
        for part in [
            "Reason: column 'id': 'x' is not a value of type int. src line [x\tb];",
            "is less than schema column number: 1, expected 2",
            "is more than schema column number: 3, expected 2",
            "column 'id': NULL is not allowed",
            "26 bytes, 20 are allowed",
        ] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    }

    #[test]
    fn columns_reorder_skip_and_default() {
        let (_, _, rows) = parse(&[("columns", "name,unused,ID")], "a\tzzz\t7\n").unwrap();
        assert!(rows.contains("| 7  | a") && !rows.contains("zzz"), "{rows}");
        let (_, _, rows) = parse(&[("columns", "id")], "7\n").unwrap();
        assert!(rows.contains("| 7  | none"), "{rows}");
        assert!(parse(&[("columns", "name")], "a\n").unwrap_err().message().contains("column 'id'"));
        assert!(parse(&[("columns", "x,y")], "a\n").is_err());
    }

    #[test]
    fn an_empty_field_of_a_number_is_null_or_a_row_with_a_clear_reason() {
        let load = |nullable, header: &[(&str, &str)]| {
            let options = Options::parse(|name| {
                header.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
            })
            .unwrap();
            let mut schema = schema();
            (schema.columns[0].nullable, schema.columns[1].nullable) = (nullable, false);
            let mut parser = TextParser::new(Arc::new(schema), &options).unwrap();
            let mut rows = Vec::new();
            let mut emit = |batch: RecordBatch| {
                rows.extend(
                    (0..batch.num_rows()).map(|row| (batch.column(0).is_null(row), batch.column(1).is_null(row))),
                );
                Ok(())
            };
            parser.feed(b" \t\n", &mut emit).unwrap();
            let (_, rejects) = parser.finish(&mut emit).unwrap();
            (rows, rejects.text().trim().to_owned())
        };
        // The text beside it is an empty text.
        assert_eq!(load(true, &[]), (vec![(true, false)], String::new()));
        let (rows, reason) = load(false, &[]);
        assert!(rows.is_empty() && reason.contains("column 'id': the field is empty"), "{reason}");
        assert!(reason.contains("NULL is not allowed"), "{reason}");
        let (rows, reason) = load(true, &[("strict_mode", "true")]);
        assert!(rows.is_empty() && reason.contains("no value of type int"), "{reason}");
    }

    #[test]
    fn lenient_loads_turn_misfits_into_null_where_that_is_allowed() {
        let (_, rejects, rows) = parse(&[("strict_mode", "false")], "1\ttwenty characters and more\nx\ta\n").unwrap();
        assert_eq!(rejects.count(), 1);
        assert!(rows.contains("| 1  | "), "{rows}");
        assert!(!rows.contains("twenty"), "{rows}");
    }
}
