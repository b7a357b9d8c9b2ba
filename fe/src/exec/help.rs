//! HELP: the reference of statements, in the client.
//!
//! Topics are the files of `docs/sql`, built into the program. The answers have the columns that MySQL clients know: one topic
//! is (name, description, example), several are (name, is_it_category), a category is (source_category_name, name,
//! is_it_category).

use crate::exec::answer::RowSet;
use crate::exec::filter::like;
use crate::exec::help_topics::FILES;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What HELP without a topic shows: the categories.
const CONTENTS: &str = "Contents";
const EXAMPLE: &str = "## Example";

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// `CREATE REPOSITORY`.
    pub name: &'static str,
    /// `Backup and restore`.
    pub category: &'static str,
    /// What it does, syntax, properties, privileges.
    pub description: String,
    /// Statements that work.
    pub example: String,
}

/// Every topic by name.
pub static TOPICS: LazyLock<BTreeMap<&'static str, Topic>> =
    LazyLock::new(|| FILES.iter().map(|text| read(text)).map(|topic| (topic.name, topic)).collect());

/// One file: a heading, a line with the category, text, and the section with the example.
fn read(text: &'static str) -> Topic {
    let (heading, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (category, rest) = rest.trim_start().split_once('\n').unwrap_or(("", rest));
    let (description, example) = rest.split_once(EXAMPLE).unwrap_or((rest, ""));
    Topic {
        name: heading.trim_start_matches('#').trim(),
        category: category.trim_start_matches("Category:").trim(),
        description: plain(description),
        example: plain(example),
    }
}

/// Markdown as it reads well in a terminal: no fences.
fn plain(markdown: &str) -> String {
    let lines = markdown.lines().filter(|line| !line.starts_with("```"));
    let text: Vec<&str> = lines.map(|line| line.trim_start_matches("## ")).collect();
    let text = text.join("\n");
    format!("{}\n", text.trim())
}

/// HELP.
pub fn help(wanted: &str) -> RowSet {
    let wanted = wanted.trim().trim_end_matches(';');
    if wanted.is_empty() || wanted.eq_ignore_ascii_case(CONTENTS) {
        return contents();
    }
    let named: Vec<&Topic> = TOPICS.values().filter(|topic| like(wanted, topic.name)).collect();
    if !named.is_empty() {
        return topics(&named);
    }
    let categories: Vec<&str> = categories().into_iter().filter(|category| like(wanted, category)).collect();
    if let [category] = categories[..] {
        return category_rows(category);
    }
    let upper = wanted.to_uppercase();
    let about: Vec<&Topic> = TOPICS.values().filter(|topic| topic.name.contains(&upper)).collect();
    topics(&about)
}

fn topics(found: &[&Topic]) -> RowSet {
    if let [topic] = found {
        let mut set = RowSet::new(["name", "description", "example"]);
        set.push([topic.name.to_owned(), topic.description.clone(), topic.example.clone()]);
        return set;
    }
    let mut set = RowSet::new(["name", "is_it_category"]);
    found.iter().for_each(|topic| set.push([topic.name, "N"]));
    set
}

fn categories() -> Vec<&'static str> {
    let mut names: Vec<&str> = TOPICS.values().map(|topic| topic.category).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn contents() -> RowSet {
    let mut set = RowSet::new(["source_category_name", "name", "is_it_category"]);
    categories().into_iter().for_each(|category| set.push([CONTENTS, category, "Y"]));
    set
}

fn category_rows(category: &str) -> RowSet {
    let mut set = RowSet::new(["source_category_name", "name", "is_it_category"]);
    let topics = TOPICS.values().filter(|topic| topic.category == category);
    topics.for_each(|topic| set.push([category, topic.name, "N"]));
    set
}

#[cfg(test)]
#[path = "help_tests.rs"]
mod tests;
