//! What a check found: how bad, about what, and what to do. Pure.

use crate::screen;
use serde::Serialize;

/// How bad a finding is, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Works, but something is to be known or done soon.
    Warning,
    /// Does not work, or will lose something.
    Problem,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad.
    pub(crate) level: Level,
    /// Which check.
    pub(crate) check: &'static str,
    /// About what: a node, a disk, a table.
    pub(crate) about: String,
    /// What was seen.
    pub(crate) found: String,
    /// What to do; empty when nothing is.
    pub(crate) advice: String,
}

impl Finding {
    /// All is well.
    pub(crate) fn ok(check: &'static str, about: &str, found: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, check, about: about.to_owned(), found: found.into(), advice: String::new() }
    }

    /// To be known.
    pub(crate) fn warning(check: &'static str, about: &str, found: impl Into<String>, advice: &str) -> Finding {
        Finding { level: Level::Warning, advice: advice.to_owned(), ..Finding::ok(check, about, found) }
    }

    /// To be repaired.
    pub(crate) fn problem(check: &'static str, about: &str, found: impl Into<String>, advice: &str) -> Finding {
        Finding { level: Level::Problem, advice: advice.to_owned(), ..Finding::ok(check, about, found) }
    }
}

/// The worst there is.
pub(crate) fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// For people: the worst last, where they look, each with what to do about it.
pub(crate) fn text(findings: &[Finding], colours: bool) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.level);
    let mut lines = Vec::new();
    for finding in sorted {
        let (word, colour) = match finding.level {
            Level::Ok => ("ok     ", "32"),
            Level::Warning => ("warning", "33"),
            Level::Problem => ("PROBLEM", "31"),
        };
        let word = screen::coloured(word, colour, colours);
        lines.push(format!("{word}  {:<9} {}: {}", finding.check, finding.about, finding.found));
        if !finding.advice.is_empty() {
            lines.push(format!("{:9}{:<9} -> {}", "", "", finding.advice));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    lines.push(format!("{problems} problems, {warnings} warnings, {} checks", findings.len()));
    lines.join("\n")
}

/// For programs.
pub(crate) fn json(findings: &[Finding]) -> serde_json::Value {
    serde_json::json!({ "level": worst(findings), "findings": findings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_last_and_says_what_to_do() {
        let findings = [
            Finding::problem("nodes", "backend h:1", "dead", "start it"),
            Finding::ok("nodes", "backend h:2", "alive"),
            Finding::warning("disks", "h:2", "90 % full", "add one"),
        ];
        assert_eq!((worst(&findings), worst(&findings[1..2]), worst(&[])), (Level::Problem, Level::Ok, Level::Ok));
        let shown = text(&findings, false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("ok ") && lines[3].starts_with("PROBLEM"), "{shown}");
        assert!(lines[4].trim_start().starts_with("-> start it"), "{shown}");
        assert_eq!(lines[5], "1 problems, 1 warnings, 3 checks");
        assert!(text(&findings, true).contains("\u{1b}[31mPROBLEM\u{1b}[0m"));
        let json = json(&findings);
        assert_eq!((&json["level"], &json["findings"][1]["level"]), (&"problem".into(), &"ok".into()));
    }
}
