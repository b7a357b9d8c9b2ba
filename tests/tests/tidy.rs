//! The rules of the tree that a compiler does not know: arrows between crates and modules, headers, sizes, licences,
//! documents that name what exists. Fast, without network, and over the sources themselves.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const FILE_LINES: usize = 600;
/// Lines of a `main.rs`.
const MAIN_LINES: usize = 80;
/// Lines of the test harness in all.
const HARNESS_LINES: usize = 1_000;

/// Which crates of ours each crate may use. ARCHITECTURE.md section 5 tells why.
const ARROWS: [(&str, &[&str]); 11] = [
    ("stdx", &[]),
    ("mysql", &[]),
    ("proto", &["stdx"]),
    ("table", &["stdx"]),
    ("store", &["proto", "stdx"]),
    ("repo", &["store", "table", "stdx"]),
    ("broker", &["store", "proto", "stdx"]),
    ("be", &["repo", "store", "table", "proto", "stdx"]),
    ("fe", &["repo", "store", "table", "mysql", "proto", "stdx"]),
    ("ctl", &["store", "proto", "stdx"]),
    ("tests", &["stdx"]),
];

fn root() -> PathBuf {
    coffer_tests::crate_dir().join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file of the workspace, relative to the root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (name, _) in ARROWS {
        collect(&root().join(name), &mut found);
    }
    found.sort();
    found.iter().map(|path| path.strip_prefix(root()).expect("below the root").to_owned()).collect()
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part of a file before its inline tests.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name == "tests" || name.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "tests")
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = std::process::Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host]);
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let metadata = metadata();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let Some(name) = package["name"].as_str().unwrap().strip_prefix("coffer-") else { continue };
        seen.insert(name.to_owned());
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("crate {name} is not in the list of arrows"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap().strip_prefix("coffer-");
            if let Some(used) = used.filter(|used| !allowed.contains(used) && *used != name) {
                faults.push(format!("{name} must not use {used}"));
            }
        }
    }
    none(&faults);
    assert_eq!(seen.len(), ARROWS.len(), "{seen:?}");
}

#[test]
fn licences_and_sources_are_those_of_deny_toml() {
    let policy: toml::Table = toml::from_str(&read(&root().join("deny.toml"))).unwrap();
    let list = |section: &str, key: &str| -> Vec<String> {
        policy[section][key].as_array().unwrap().iter().map(|value| value.as_str().unwrap_or("").to_owned()).collect()
    };
    let (allowed, registries) = (list("licenses", "allow"), list("sources", "allow-registry"));
    let banned: Vec<String> = policy["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["crate"].as_str().unwrap().to_owned())
        .collect();
    let mut faults = Vec::new();
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        if !licence_allowed(licence, &allowed) {
            faults.push(format!("{name}: licence {licence}"));
        }
        if banned.iter().any(|banned| banned == name) {
            faults.push(format!("{name} is banned"));
        }
        if let Some(source) = package["source"].as_str()
            && !registries.iter().any(|registry| source == format!("registry+{registry}"))
        {
            faults.push(format!("{name} comes from {source}"));
        }
    }
    none(&faults);
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is the old way of writing OR.
fn licence_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = either(&tokens, &mut at, allowed);
    verdict && at == tokens.len()
}

fn either(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = both(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= both(tokens, at, allowed);
    }
    verdict
}

fn both(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(tokens, at, allowed);
    }
    verdict
}

fn one(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if *token == "(" {
        let verdict = either(tokens, at, allowed);
        *at += 1;
        return verdict;
    }
    let mut licence = (*token).to_owned();
    if tokens.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", tokens.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for good in
        ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(licence_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "none"] {
        assert!(!licence_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_file_tells_its_story_and_is_short() {
    let mut faults = Vec::new();
    for path in sources() {
        let text = read(&root().join(&path));
        let shown = path.display();
        if !text.starts_with("//!") {
            faults.push(format!("{shown}: no //! header"));
        }
        let lines = without_tests(&text).lines().count();
        let limit = if path.ends_with("src/main.rs") { MAIN_LINES } else { FILE_LINES };
        if !is_test_file(&path) && lines > limit {
            faults.push(format!("{shown}: {lines} lines, at most {limit}"));
        }
    }
    let harness: usize = sources()
        .iter()
        .filter(|path| path.starts_with("tests/src"))
        .map(|path| read(&root().join(path)).lines().count())
        .sum();
    if harness > HARNESS_LINES {
        faults.push(format!("tests/src: {harness} lines in all, at most {HARNESS_LINES}"));
    }
    none(&faults);
}

#[test]
fn modules_of_a_crate_use_each_other_in_one_direction() {
    let mut graphs: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for path in sources().iter().filter(|path| !is_test_file(path)) {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        let [package, "src", top, ..] = parts[..] else { continue };
        let module = top.trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let text = read(&root().join(path));
        let used = graphs.entry(package.to_owned()).or_default().entry(module.to_owned()).or_default();
        for line in without_tests(&text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            used.extend(crate_modules(line).into_iter().filter(|other| other != module));
        }
    }
    let mut faults = Vec::new();
    for (package, graph) in &graphs {
        for (module, used) in graph {
            for other in used.iter().filter(|other| *other > module && reaches(graph, other, module)) {
                faults.push(format!("{package}: {module} and {other} use each other, directly or through others"));
            }
        }
    }
    none(&faults);
}

/// The modules named after `crate::` in a line, also in a group.
fn crate_modules(line: &str) -> Vec<String> {
    let name = |text: &str| {
        text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit()).collect::<String>()
    };
    let mut found = Vec::new();
    for after in line.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => found.extend(group.split(',').map(|item| name(item.trim_start()))),
            None => found.push(name(after)),
        }
    }
    found.retain(|module| !module.is_empty());
    found
}

fn reaches(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut next = vec![from.to_owned()];
    while let Some(module) = next.pop() {
        for used in graph.get(&module).into_iter().flatten() {
            if used == to {
                return true;
            }
            if seen.insert(used.clone()) {
                next.push(used.clone());
            }
        }
    }
    false
}

#[test]
fn documents_name_only_what_exists() {
    let tops: Vec<String> = std::fs::read_dir(root())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let mut faults = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "repo/FORMAT.md"] {
        let text = read(&root().join(document));
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split_whitespace().next().unwrap_or_default().trim_start_matches("./");
            let top = path.split('/').next().unwrap_or_default();
            let literal = !path.contains(['<', '*', '{', '$', ':', '(']);
            let beside = root().join(document).with_file_name(path);
            let exists = root().join(path).exists() || beside.exists();
            if path.contains('/') && literal && tops.iter().any(|known| known == top) && !exists {
                faults.push(format!("{document}: `{path}` does not exist"));
            }
        }
    }
    none(&faults);
}

#[test]
fn example_configurations_list_every_option() {
    let mut faults = Vec::new();
    for role in ["fe", "be", "broker"] {
        let source = read(&root().join(role).join("src/config.rs"));
        let body = source.split_once("pub struct Config {").and_then(|(_, rest)| rest.split_once("\n}")).unwrap().0;
        let fields: BTreeSet<&str> = body
            .lines()
            .filter_map(|line| line.strip_prefix("    pub ")?.split_once(':').map(|(name, _)| name))
            .collect();
        let example: toml::Table = toml::from_str(&read(&root().join(format!("deploy/config/{role}.toml")))).unwrap();
        let keys: BTreeSet<&str> = example.keys().map(String::as_str).collect();
        faults.extend(
            fields.symmetric_difference(&keys).map(|name| format!("{role}: option {name} is on one side only")),
        );
    }
    none(&faults);
}
