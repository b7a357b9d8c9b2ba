//! `core-site.xml` and `hdfs-site.xml` of a configuration folder, as one map of properties.
//!
//! Read anew whenever a store is opened, so that an edited file counts without a restart. `${name}` in a value is
//! replaced by the property of that name, as Hadoop does it; XInclude is not followed.

use coffer_stdx::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The files, the later one wins.
const FILES: [&str; 2] = ["core-site.xml", "hdfs-site.xml"];
/// Largest file, bytes.
const FILE_BYTES: u64 = 4 << 20;
/// Replacements within one value; more means that properties name each other in a circle.
const REPLACEMENTS: usize = 20;
/// A value is replaced in no further once it is longer, bytes.
const VALUE_BYTES: usize = 64 << 10;

/// The properties of the files in `folder`; a file that is not there has none.
pub(super) fn read(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut properties = BTreeMap::new();
    for name in FILES {
        let path = folder.join(name);
        let fault = |cause: String| Error::invalid(format!("configuration {}: {cause}", path.display()));
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fault(error.to_string())),
            Ok(meta) if meta.len() > FILE_BYTES => return Err(fault(format!("is larger than {FILE_BYTES} bytes"))),
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
        properties.extend(parse(&text).map_err(fault)?);
    }
    Ok(expanded(&properties))
}

fn parse(text: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let tree = roxmltree::Document::parse(text).map_err(|error| format!("is no XML: {error}"))?;
    let root = tree.root_element();
    if !root.has_tag_name("configuration") {
        return Err("has no <configuration>".to_owned());
    }
    let text_of = |property: roxmltree::Node<'_, '_>, tag: &str| -> Option<String> {
        let node = property.children().find(|node| node.has_tag_name(tag))?;
        Some(node.text().unwrap_or_default().trim().to_owned())
    };
    let properties = root.children().filter(|node| node.has_tag_name("property"));
    Ok(properties.filter_map(|property| Some((text_of(property, "name")?, text_of(property, "value")?))).collect())
}

/// Every `${name}` replaced, where there is such a property.
fn expanded(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let expand = |value: &str| {
        let mut value = value.to_owned();
        for _ in 0..REPLACEMENTS {
            let Some((found, name)) = variable(&value, properties).filter(|_| value.len() <= VALUE_BYTES) else {
                break;
            };
            value = value.replace(&found, &properties[&name]);
        }
        value
    };
    properties.iter().map(|(name, value)| (name.clone(), expand(value))).collect()
}

/// The first `${name}` that names a property.
fn variable(value: &str, properties: &BTreeMap<String, String>) -> Option<(String, String)> {
    value.match_indices("${").find_map(|(at, _)| {
        let name = &value[at + 2..at + value[at..].find('}')?];
        properties.contains_key(name).then(|| (format!("${{{name}}}"), name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_count_the_later_wins_and_variables_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        let site = |name: &str, body: &str| {
            std::fs::write(
                dir.path().join(name),
                format!("<?xml version=\"1.0\"?>\n<configuration>{body}</configuration>"),
            )
        };
        site(
            "core-site.xml",
            "<!-- a --><property><name>a</name><value> 1 &amp; ${b}</value></property>
             <property><name>c</name><value>old</value></property>",
        )
        .unwrap();
        site(
            "hdfs-site.xml",
            "<property><name>b</name><value>2</value><final>true</final></property>
             <property><name>c</name><value>new ${unknown} ${c}</value></property><property><name>d</name></property>",
        )
        .unwrap();
        let properties = read(dir.path()).unwrap();
        assert_eq!(properties["a"], "1 & 2");
        assert_eq!(properties["b"], "2");
        assert!(properties["c"].starts_with("new ${unknown}"));
        assert!(!properties.contains_key("d"));
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for (body, says) in [("<configuration>", "no XML"), ("<other/>", "no <configuration>")] {
            std::fs::write(dir.path().join("hdfs-site.xml"), body).unwrap();
            let error = read(dir.path()).unwrap_err();
            assert!(error.message().contains("hdfs-site.xml") && error.message().contains(says), "{error}");
        }
    }
}
