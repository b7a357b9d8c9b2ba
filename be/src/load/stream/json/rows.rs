//! JSON documents into batches of whole rows. Documents that do not fit are left out and counted.

use super::path::Path;
use super::split::{Frame, Splitter};
use super::value::{Value, document, elements, members};
use crate::limits::{PARSE_BYTES, PARSE_ROWS};
use crate::load::rejects::{Rejects, with_line};
use crate::load::stream::options::{Format, Json, Options};
use crate::load::stream::text::{Rules, default_of, push_row};
use arrow::array::RecordBatch;
use coffer_stdx::{Error, Result};
use coffer_table::{BatchBuilder, Schema};
use std::borrow::Cow;
use std::sync::Arc;

/// Turns one file into batches.
#[derive(Debug)]
pub struct JsonParser {
    splitter: Splitter,
    schema: Arc<Schema>,
    builder: BatchBuilder,
    rules: Rules,
    json: Json,
    /// What the fields of a row are called.
    names: Vec<String>,
    /// What stands for a field that a row does not have: the column's default.
    absent: Vec<Option<String>>,
    /// Documents are arrays of rows.
    nested: bool,
    total: u64,
    rejects: Rejects,
}

impl JsonParser {
    /// For a file as the options say.
    pub fn new(schema: Arc<Schema>, options: &Options) -> Result<JsonParser> {
        let Format::Json(json) = options.format.clone() else {
            return Err(Error::bug("a parser of JSON for another format"));
        };
        let columns = schema.columns.iter().map(|column| column.name.clone());
        let mut names = options.columns.clone().unwrap_or_else(|| columns.collect());
        if let Some(paths) = &json.paths {
            if paths.len() > names.len() || (options.columns.is_some() && paths.len() != names.len()) {
                let (paths, names) = (paths.len(), names.len());
                return Err(Error::invalid(format!("jsonpaths has {paths} paths for {names} columns")));
            }
            names.truncate(paths.len());
        }
        let frame = match (json.by_line, json.strip_outer_array && json.root.is_none()) {
            (true, _) => Frame::Lines,
            (false, true) => Frame::Elements,
            (false, false) => Frame::Whole,
        };
        let rules = Rules::new(&schema, options, &names)?;
        let absent = names.iter().map(|name| default_of(&schema, name)).collect();
        Ok(JsonParser {
            splitter: Splitter::new(frame),
            builder: BatchBuilder::new(&schema),
            rules,
            nested: json.strip_outer_array && frame != Frame::Elements,
            json,
            names,
            absent,
            schema,
            total: 0,
            rejects: Rejects::default(),
        })
    }

    /// More of the file; full batches go to `emit`.
    pub fn feed(&mut self, chunk: &[u8], emit: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        self.splitter.feed(chunk);
        self.drain(emit)
    }

    /// The end of the file; the last batch goes to `emit`. Returns all rows and those left out.
    pub fn finish(mut self, mut emit: impl FnMut(RecordBatch) -> Result<()>) -> Result<(u64, Rejects)> {
        self.splitter.finish();
        self.drain(&mut emit)?;
        if self.builder.rows() > 0 {
            emit(self.builder.finish()?)?;
        }
        Ok((self.total, self.rejects))
    }

    fn drain(&mut self, mut emit: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        while let Some((number, bytes)) = self.splitter.next_document()? {
            let shape = Shape { json: &self.json, names: &self.names, absent: &self.absent, nested: self.nested };
            let found = std::str::from_utf8(bytes).map_err(|_| Error::invalid("not UTF-8"));
            let mut refusals = Vec::new();
            match found.and_then(|text| shape.rows(text)) {
                Err(error) => refusals.push(error.message().to_owned()),
                Ok(rows) => {
                    self.total += rows.len() as u64;
                    for row in rows {
                        let pushed = row.and_then(|row| {
                            let field = |at: usize| row[at].as_deref();
                            push_row(&mut self.builder, &self.rules, field)
                                .map_err(|refusal| Error::invalid(refusal.describe(&self.schema, field)))
                        });
                        match pushed {
                            Ok(()) => self.builder.end_row(),
                            Err(error) => {
                                self.builder.abandon_row();
                                self.total -= 1;
                                refusals.push(error.message().to_owned());
                            }
                        }
                    }
                }
            }
            self.total += refusals.len() as u64;
            for refusal in refusals {
                self.rejects.add(|| with_line(&format!("document {number}: {refusal}"), bytes));
            }
            if self.builder.rows() >= PARSE_ROWS || self.builder.bytes() >= PARSE_BYTES {
                emit(self.builder.finish()?)?;
            }
        }
        Ok(())
    }
}

/// How rows lie in a document.
struct Shape<'a> {
    json: &'a Json,
    names: &'a [String],
    absent: &'a [Option<String>],
    nested: bool,
}

/// The fields of a row, as text; `None` is NULL.
type Row<'t> = Vec<Option<Cow<'t, [u8]>>>;

impl Shape<'_> {
    /// The rows of a document; an error of all of it, or of single rows.
    fn rows<'t>(&self, text: &'t str) -> Result<Vec<Result<Row<'t>>>> {
        let mut at = document(text)?;
        if let Some(root) = &self.json.root {
            at = root.find(&at)?.ok_or_else(|| Error::invalid("there is nothing at json_root"))?;
        }
        if !self.nested {
            return Ok(vec![self.row(at)]);
        }
        match at {
            Value::Array(text) => Ok(elements(text)?.into_iter().map(|element| self.row(element)).collect()),
            _ => Err(Error::invalid("strip_outer_array is set, but this is no array")),
        }
    }

    fn row<'t>(&self, document: Value<'t>) -> Result<Row<'t>> {
        let Value::Object(text) = document else {
            let hint =
                if matches!(document, Value::Array(_)) { "; set strip_outer_array for an array of rows" } else { "" };
            return Err(Error::invalid(format!("a row must be a JSON object{hint}")));
        };
        if let Some(paths) = &self.json.paths {
            let document = Value::Object(text);
            let field = |(at, path): (usize, &Path)| Ok(self.field(at, path.find(&document)?));
            return paths.iter().enumerate().map(field).collect();
        }
        let members = members(text)?;
        let value = |name: &String| {
            let exact = members.iter().find(|(known, _)| known == name);
            exact.or_else(|| members.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)))
        };
        let fields = self.names.iter().enumerate();
        Ok(fields.map(|(at, name)| self.field(at, value(name).map(|(_, value)| value.clone()))).collect())
    }

    fn field<'t>(&self, at: usize, found: Option<Value<'t>>) -> Option<Cow<'t, [u8]>> {
        match found {
            None => self.absent[at].clone().map(|text| Cow::Owned(text.into_bytes())),
            Some(Value::Null) => None,
            Some(Value::Plain(text) | Value::Object(text) | Value::Array(text)) => Some(Cow::Borrowed(text.as_bytes())),
            Some(Value::Text(Cow::Borrowed(text))) => Some(Cow::Borrowed(text.as_bytes())),
            Some(Value::Text(Cow::Owned(text))) => Some(Cow::Owned(text.into_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::schema;
    use arrow::util::display::array_value_to_string;

    /// Rows as `id/name`, all rows, and the reasons of those left out.
    fn load(headers: &[(&str, &str)], text: &str) -> Result<(Vec<String>, u64, String)> {
        let header = |name: &str| match name {
            "format" => Some(&b"json"[..]),
            _ => headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()),
        };
        let options = Options::parse(header)?;
        let mut schema = schema();
        schema.columns[1].default = Some("none".to_owned());
        let mut parser = JsonParser::new(Arc::new(schema), &options)?;
        let mut rows = Vec::new();
        let mut emit = |batch: RecordBatch| {
            let value = |column: usize, row| array_value_to_string(batch.column(column), row).unwrap();
            rows.extend((0..batch.num_rows()).map(|row| format!("{}/{}", value(0, row), value(1, row))));
            Ok(())
        };
        for chunk in text.as_bytes().chunks(7) {
            parser.feed(chunk, &mut emit)?;
        }
        let (total, rejects) = parser.finish(&mut emit)?;
        Ok((rows, total, rejects.text()))
    }

    #[test]
    fn lines_and_arrays_of_objects() {
        let lines = "{\"id\": 1, \"name\": \"a\"}\n{\"NAME\": null, \"id\": \"2\", \"more\": [1]}\n{\"id\": 3}\n";
        let wanted = ["1/a", "2/", "3/none"];
        assert_eq!(load(&[], lines).unwrap().0, wanted);
        assert_eq!(load(&[("read_json_by_line", "true")], lines).unwrap().0, wanted);
        let array = format!("[{}]", lines.trim().replace('\n', ",\n"));
        let outer = ("strip_outer_array", "true");
        assert_eq!(load(&[outer], &array).unwrap().0, wanted);
        let both = [outer, ("read_json_by_line", "true")];
        assert_eq!(
            load(&both, "[{\"id\": 1}, {\"id\": 2}]\n[{\"id\": 3}]\n[]").unwrap().0,
            ["1/none", "2/none", "3/none"]
        );
        let whole = ("read_json_by_line", "false");
        assert_eq!(load(&[whole], "{\n\"id\":\n7}\n").unwrap().0, ["7/none"]);
    }

    #[test]
    fn paths_and_roots() {
        let text = r#"{"data": {"rows": [{"i": {"d": [5, 6]}, "n": {"x": 1}}, {"i": {"d": [7]}}]}}"#;
        let headers = [
            ("strip_outer_array", "true"),
            ("read_json_by_line", "true"),
            ("json_root", "$.data.rows"),
            ("jsonpaths", r#"["$.i.d[0]", "$.n"]"#),
        ];
        assert_eq!(load(&headers, text).unwrap().0, [r#"5/{"x": 1}"#, "7/none"]);
        let renamed = [("jsonpaths", "[\"$.a\", \"$.b\", \"$.c\"]"), ("columns", "name, unused, id")];
        assert_eq!(load(&renamed, "{\"a\": \"x\", \"b\": 9, \"c\": 4}").unwrap().0, ["4/x"]);
        let few = load(&[("jsonpaths", "[\"$.a\"]"), ("columns", "id, name")], "{}").unwrap_err();
        assert!(few.message().contains("1 paths for 2 columns"), "{few}");
        assert!(load(&[("json_root", "$.x")], "{\"id\": 1}").unwrap().2.contains("nothing at json_root"));
    }

    #[test]
    fn rows_that_do_not_fit_are_counted_and_explained() {
        let text = "{\"id\": 1.5}\n{\"id\": 1\n[1]\n{\"name\": \"x\"}\n{\"id\": 2, \"name\": \"123456789012345678901\"}\n{\"id\": 3}\n";
        let (rows, total, reasons) = load(&[], text).unwrap();
        assert_eq!((rows, total), (vec!["3/none".to_owned()], 6));
        for part in [
            "document 1: column 'id': '1.5' is not a value of type int. src line [{\"id\": 1.5}]",
            "document 2: not JSON: a closing bracket expected at byte 8",
            "document 3: a row must be a JSON object; set strip_outer_array",
            "document 4: column 'id': NULL is not allowed",
            "21 bytes, 20 are allowed",
        ] {
            assert!(reasons.contains(part), "{part} not in {reasons}");
        }
    }
}
