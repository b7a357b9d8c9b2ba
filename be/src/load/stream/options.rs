//! The headers of a stream load. Headers that would change the meaning of a load and are not supported fail it; headers
//! that only tune how it runs are taken and ignored.

use super::json::path::Path;
use super::words::{Words, conditions};
use coffer_stdx::{Error, Result};
use coffer_table::Predicate;

/// What a load asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// `label`; one is made up when absent.
    pub label: Option<String>,
    /// `comment`, shown again in the answer.
    pub comment: String,
    /// `format`.
    pub format: Format,
    /// `compress_type`.
    pub compression: Compression,
    /// How text is cut.
    pub shape: Shape,
    /// `columns`: names of the file's columns in file order; absent: the table's columns.
    pub columns: Option<Vec<String>>,
    /// `columns`: table columns that take something else than the column of the file with their name.
    pub assigned: Assignments,
    /// `partitions`: only into these; none: into all.
    pub partitions: Vec<String>,
    /// `where`: rows that do not meet it are not loaded.
    pub chosen: Option<Predicate>,
    /// `max_filter_ratio`: the largest part of rows that may be left out.
    pub max_filter_ratio: f64,
    /// `timeout`, seconds.
    pub timeout_s: u32,
    /// `two_phase_commit`: the client is to say commit or abort.
    pub two_phase: bool,
    /// `strict_mode`: false makes NULL of a value that does not fit a nullable column; true refuses even an empty field of
    /// a number, date or time, which is NULL otherwise.
    pub strict: Option<bool>,
}

/// Kind of file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Csv,
    /// JSON.
    Json(Json),
    /// Parquet.
    Parquet,
}

/// Columns of the table by name, and what goes into them.
pub type Assignments = Vec<(String, Assigned)>;

/// What `columns` puts into a column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// A column of the file, by name.
    Copy(String),
    /// The same for all rows, as a load file would have it; `None` is NULL.
    Constant(Option<String>),
}

/// How the body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
}

/// How JSON documents make rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Json {
    /// `read_json_by_line`: each line is a document; as long as neither it nor `strip_outer_array` is set, too.
    pub by_line: bool,
    /// `strip_outer_array`: a document is an array of rows.
    pub strip_outer_array: bool,
    /// `json_root`: where in a document that is.
    pub root: Option<Path>,
    /// `jsonpaths`: where in a row the values are.
    pub paths: Option<Vec<Path>>,
}

/// How text is cut into rows and fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Between fields.
    pub separator: Vec<u8>,
    /// Between rows.
    pub delimiter: Vec<u8>,
    /// Around fields that may hold separators and delimiters.
    pub enclose: Option<u8>,
    /// Makes the next byte literal inside enclosed fields.
    pub escape: Option<u8>,
    /// Take off `"` around fields.
    pub trim_double_quotes: bool,
    /// Rows at the beginning that are not data.
    pub skip_lines: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            separator: b"\t".to_vec(),
            delimiter: b"\n".to_vec(),
            enclose: None,
            escape: None,
            trim_double_quotes: false,
            skip_lines: 0,
        }
    }
}

const DEFAULT_TIMEOUT_S: u32 = 600;
const MAX_TIMEOUT_S: u32 = 259_200;
/// Headers that must be absent, empty or have one of these values.
const UNSUPPORTED: &[(&str, &[&str])] = &[
    ("temporary_partitions", &[]),
    ("fuzzy_parse", &["false"]),
    ("num_as_string", &["false"]),
    ("merge_type", &["append"]),
    ("delete", &[]),
    ("function_column.sequence_col", &[]),
    ("hidden_columns", &[]),
    ("group_commit", &["off_mode"]),
    ("partial_columns", &["false"]),
    ("unique_key_update_mode", &["upsert"]),
    ("load_to_single_tablet", &["false"]),
    ("content-encoding", &["identity"]),
];

impl Options {
    /// Read the headers; `header` finds a value by lower-case name.
    pub fn parse<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Options> {
        let text = |name: &str| text_of(name, header(name));
        for (name, harmless) in UNSUPPORTED {
            let value = text(name)?.unwrap_or_default();
            if !value.is_empty() && !harmless.iter().any(|harmless| value.eq_ignore_ascii_case(harmless)) {
                return Err(Error::not_supported(format!("header '{name}: {value}' is not supported")));
            }
        }
        let (mut format, names) = parse_format(text("format")?.as_deref().unwrap_or("csv"))?;
        if let Format::Json(json) = &mut format {
            *json = parse_json(text)?;
        }
        let compression = parse_compression(text("compress_type")?.as_deref().unwrap_or_default(), &format)?;
        let mut shape = Shape::default();
        if let Some(value) = header("column_separator").filter(|value| !value.is_empty()) {
            shape.separator = unescape("column_separator", value)?;
        }
        if let Some(value) = header("line_delimiter").filter(|value| !value.is_empty()) {
            shape.delimiter = unescape("line_delimiter", value)?;
        }
        shape.enclose = one_byte("enclose", header("enclose"))?;
        shape.escape = one_byte("escape", header("escape"))?;
        shape.trim_double_quotes = flag("trim_double_quotes", text("trim_double_quotes")?)?.unwrap_or(false);
        shape.skip_lines = number("skip_lines", text("skip_lines")?)?.unwrap_or(0) + names;
        if shape.separator == shape.delimiter {
            return Err(Error::invalid("column_separator and line_delimiter are the same"));
        }
        let timeout = number("timeout", text("timeout")?)?.unwrap_or(u64::from(DEFAULT_TIMEOUT_S));
        let (columns, assigned) = match text("columns")?.filter(|list| !list.is_empty()) {
            Some(list) => parse_columns(&list).map(|(names, assigned)| (Some(names), assigned))?,
            None => (None, Vec::new()),
        };
        let timeout_s = u32::try_from(timeout).ok().filter(|seconds| (1..=MAX_TIMEOUT_S).contains(seconds));
        Ok(Options {
            label: text("label")?.filter(|label| !label.is_empty()),
            comment: text("comment")?.unwrap_or_default(),
            format,
            compression,
            shape,
            columns,
            assigned,
            partitions: text("partitions")?
                .filter(|list| !list.is_empty())
                .map(|list| parse_names("partitions", &list))
                .transpose()?
                .unwrap_or_default(),
            chosen: text("where")?.filter(|text| !text.is_empty()).map(|text| conditions(&text)).transpose()?,
            max_filter_ratio: ratio(text("max_filter_ratio")?)?,
            timeout_s: timeout_s.ok_or_else(|| {
                Error::invalid(format!("timeout: {timeout} is not from 1 to {MAX_TIMEOUT_S} seconds"))
            })?,
            two_phase: flag("two_phase_commit", text("two_phase_commit")?)?.unwrap_or(false),
            strict: flag("strict_mode", text("strict_mode")?)?,
        })
    }
}

fn text_of(name: &str, value: Option<&[u8]>) -> Result<Option<String>> {
    let not_text = |_| Error::invalid(format!("header '{name}' is not UTF-8"));
    value.map(|value| std::str::from_utf8(value).map(|text| text.trim().to_owned()).map_err(not_text)).transpose()
}

fn parse_format(name: &str) -> Result<(Format, u64)> {
    match name.to_ascii_lowercase().as_str() {
        "csv" | "" => Ok((Format::Csv, 0)),
        "csv_with_names" => Ok((Format::Csv, 1)),
        "csv_with_names_and_types" => Ok((Format::Csv, 2)),
        "json" => Ok((Format::Json(Json::default()), 0)),
        "parquet" => Ok((Format::Parquet, 0)),
        _ => Err(Error::not_supported(format!(
            "format '{name}' is not supported; use csv, csv_with_names, csv_with_names_and_types, json or parquet"
        ))),
    }
}

fn parse_compression(name: &str, format: &Format) -> Result<Compression> {
    match (name.to_ascii_lowercase().as_str(), format) {
        ("" | "plain", _) => Ok(Compression::Plain),
        ("gz", Format::Parquet) => {
            Err(Error::invalid("compress_type with format parquet: such files compress themselves"))
        }
        ("gz", Format::Csv | Format::Json(_)) => Ok(Compression::Gzip),
        _ => Err(Error::not_supported(format!("compress_type '{name}' is not supported; use gz"))),
    }
}

fn parse_json(text: impl Fn(&str) -> Result<Option<String>>) -> Result<Json> {
    let strip_outer_array = flag("strip_outer_array", text("strip_outer_array")?)?.unwrap_or(false);
    let path = |text: &String| Path::parse(text);
    let paths = text("jsonpaths")?.filter(|list| !list.is_empty());
    let listed = |list: &String| {
        let texts: std::result::Result<Vec<String>, _> = serde_json::from_str(list);
        let texts = texts.map_err(|_| Error::invalid(format!("jsonpaths: '{list}' is no JSON array of texts")))?;
        texts.iter().map(path).collect::<Result<Vec<Path>>>()
    };
    Ok(Json {
        by_line: flag("read_json_by_line", text("read_json_by_line")?)?.unwrap_or(!strip_outer_array),
        strip_outer_array,
        root: text("json_root")?.filter(|root| !root.is_empty()).as_ref().map(path).transpose()?,
        paths: paths.as_ref().map(listed).transpose()?,
    })
}

/// `a, b, c = a, d = 'x', e = NULL`: the columns of the file, and what else goes into columns of the table.
fn parse_columns(list: &str) -> Result<(Vec<String>, Assignments)> {
    let mut words = Words::new("columns", list);
    let (mut names, mut assigned): (Vec<String>, Assignments) = (Vec::new(), Vec::new());
    loop {
        let name = words.name()?;
        let earlier = names.iter().chain(assigned.iter().map(|(name, _)| name));
        if earlier.into_iter().any(|earlier| earlier.eq_ignore_ascii_case(&name)) {
            return Err(Error::invalid(format!("columns names '{name}' twice")));
        }
        if !words.eat_sign("=") {
            names.push(name);
        } else if words.eat_word("null") {
            assigned.push((name, Assigned::Constant(None)));
        } else if let Some(value) = words.maybe_value()? {
            assigned.push((name, Assigned::Constant(Some(value))));
        } else {
            assigned.push((name, Assigned::Copy(words.name()?)));
        }
        if !words.eat_sign(",") {
            break;
        }
    }
    if !words.at_end() {
        return Err(words.unexpected("a comma (columns take values and other columns, not expressions)"));
    }
    if names.is_empty() {
        return Err(Error::invalid(format!("columns: '{list}' names no column of the file")));
    }
    for (name, from) in &assigned {
        if let Assigned::Copy(from) = from
            && !names.iter().any(|known| known.eq_ignore_ascii_case(from))
        {
            return Err(Error::invalid(format!("columns: '{from}', which '{name}' takes, is no column of the file")));
        }
    }
    Ok((names, assigned))
}

/// `a, b`.
fn parse_names(header: &'static str, list: &str) -> Result<Vec<String>> {
    let mut words = Words::new(header, list);
    let mut names = vec![words.name()?];
    while words.eat_sign(",") {
        names.push(words.name()?);
    }
    if words.at_end() { Ok(names) } else { Err(words.unexpected("a comma")) }
}

fn ratio(text: Option<String>) -> Result<f64> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(0.0) };
    let parsed = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| Error::invalid(format!("max_filter_ratio: '{text}' is not a number from 0 to 1")))
}

fn number(name: &str, text: Option<String>) -> Result<Option<u64>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::invalid(format!("{name}: '{text}' is not a whole number")))
}

fn flag(name: &str, text: Option<String>) -> Result<Option<bool>> {
    match text.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(Error::invalid(format!("{name}: '{other}' is neither true nor false"))),
    }
}

fn one_byte(name: &str, value: Option<&[u8]>) -> Result<Option<u8>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    // A lone backslash is the usual escape and begins no sequence.
    let bytes = if value == b"\\" { value.to_vec() } else { unescape(name, value)? };
    match bytes.as_slice() {
        [byte] => Ok(Some(*byte)),
        _ => Err(Error::invalid(format!("{name} must be one byte"))),
    }
}

/// `\t`, `\n`, `\r`, `\\` and `\x` with hexadecimal digits become bytes; everything else is itself.
fn unescape(name: &str, value: &[u8]) -> Result<Vec<u8>> {
    let broken =
        || Error::invalid(format!("{name}: '{}' has an unfinished escape sequence", String::from_utf8_lossy(value)));
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (kind, after) = rest.split_first().ok_or_else(broken)?;
        rest = after;
        match kind {
            b't' => bytes.push(b'\t'),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b'\\' => bytes.push(b'\\'),
            b'x' | b'X' => {
                let before = bytes.len();
                while let Some(byte) = rest.get(..2).and_then(hex) {
                    bytes.push(byte);
                    rest = &rest[2..];
                }
                if bytes.len() == before {
                    return Err(broken());
                }
            }
            other => bytes.extend([b'\\', *other]),
        }
    }
    Ok(bytes)
}

fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    let (high, low) = (digit(pair.first()?)?, digit(pair.get(1)?)?);
    Some((high * 16 + low) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[(&str, &str)]) -> Result<Options> {
        Options::parse(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()))
    }

    #[test]
    fn defaults() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.format, options.timeout_s, options.max_filter_ratio), (Format::Csv, 600, 0.0));
        assert_eq!((options.shape, options.label, options.strict), (Shape::default(), None, None));
    }

    #[test]
    fn values_are_read() {
        let options = parse(&[
            ("label", " l1 "),
            ("column_separator", "\\x0102"),
            ("line_delimiter", "\\r\\n"),
            ("columns", "a, `b` ,c"),
            ("max_filter_ratio", "0.5"),
            ("format", "csv_with_names_and_types"),
            ("skip_lines", "3"),
            ("enclose", "\""),
            ("escape", "\\"),
            ("strict_mode", "false"),
            ("merge_type", "APPEND"),
            ("two_phase_commit", "true"),
            ("partitions", "p1, `p 2`"),
        ])
        .unwrap();
        assert_eq!(options.label.as_deref(), Some("l1"));
        assert!(options.two_phase && options.partitions == ["p1", "p 2"]);
        assert_eq!(
            (options.shape.separator.as_slice(), options.shape.delimiter.as_slice()),
            (&[1_u8, 2][..], &b"\r\n"[..])
        );
        assert_eq!(options.columns.unwrap(), ["a", "b", "c"]);
        assert_eq!(
            (options.shape.skip_lines, options.shape.enclose, options.shape.escape),
            (5, Some(b'"'), Some(b'\\'))
        );
        assert_eq!(options.strict, Some(false));
    }

    #[test]
    fn columns_take_values_and_other_columns() {
        let options = parse(&[("columns", "a, `b x`,c = 'it, is',d=-1 , e = NULL, f = `b x`, g = true")]).unwrap();
        assert_eq!(options.columns.unwrap(), ["a", "b x"]);
        let constant = |text: &str| Assigned::Constant(Some(text.to_owned()));
        let wanted = [
            ("c", constant("it, is")),
            ("d", constant("-1")),
            ("e", Assigned::Constant(None)),
            ("f", Assigned::Copy("b x".to_owned())),
            ("g", constant("true")),
        ];
        assert_eq!(options.assigned, wanted.map(|(name, from)| (name.to_owned(), from)));
        assert_eq!(parse(&[("where", "a > 1 and b is null")]).unwrap().chosen.unwrap().conditions.len(), 2);
    }

    #[test]
    fn json_is_cut_as_the_headers_say() {
        let json = |headers: &[(&str, &str)]| {
            let parsed = parse(&[&[("format", "JSON")], headers].concat());
            parsed.map(|options| match options.format {
                Format::Json(json) => json,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(json(&[]).unwrap(), Json { by_line: true, ..Json::default() });
        let outer = json(&[("strip_outer_array", "true"), ("jsonpaths", "[\"$.a\"]"), ("json_root", "$.r")]).unwrap();
        assert!(outer.strip_outer_array && !outer.by_line && outer.root.is_some());
        assert_eq!(outer.paths.map(|paths| paths.len()), Some(1));
        for (name, value) in [("jsonpaths", "$.a"), ("jsonpaths", "[\"a\"]"), ("json_root", "r")] {
            assert!(json(&[(name, value)]).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (name, value) in [
            ("where", "a > b"),
            ("format", "orc"),
            ("fuzzy_parse", "true"),
            ("columns", "a, b = a + 1"),
            ("columns", "a,,b"),
            ("partitions", "p1 p2"),
            ("partitions", "p1,"),
            ("columns", "a,A"),
            ("columns", "a, A = 1"),
            ("columns", "a, b = c"),
            ("columns", "a, b = now()"),
            ("columns", "a = 1"),
            ("columns", "a,"),
            ("max_filter_ratio", "2"),
            ("timeout", "0"),
            ("compress_type", "lz4"),
            ("enclose", "ab"),
            ("column_separator", "\\x"),
            ("column_separator", "\\n"),
            ("strict_mode", "maybe"),
            ("skip_lines", "-1"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert!(error.message().contains(name.split('_').next().unwrap()), "{name}: {error}");
        }
    }
}
