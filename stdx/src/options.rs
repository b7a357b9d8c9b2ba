//! Options of a process as operators see them while it runs: what they are, what they mean, which may be changed, and the
//! values that may change under those who use them. No I/O.
//!
//! What is changed holds until the process stops; the configuration file is the operator's.

use crate::secret::{MASK, is_secret_key};
use crate::{Error, Result};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Options and their wanted values.
pub type Changes = BTreeMap<String, String>;

/// A number that may change while it is used.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Live(AtomicU64);

impl Live {
    /// With this value.
    pub fn new(value: u64) -> Live {
        Live(AtomicU64::new(value))
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The value now, of an option that is checked to be small.
    pub fn get_u32(&self) -> u32 {
        u32::try_from(self.get()).unwrap_or(u32::MAX)
    }
}

impl Clone for Live {
    fn clone(&self) -> Live {
        Live::new(self.get())
    }
}

/// A switch that may change while it is used.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flag(AtomicBool);

impl Flag {
    /// With this value.
    pub fn new(value: bool) -> Flag {
        Flag(AtomicBool::new(value))
    }

    /// The value now.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for Flag {
    fn clone(&self) -> Flag {
        Flag::new(self.get())
    }
}

/// A text that may change while it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "String")]
pub struct Text(RwLock<String>);

impl Text {
    /// With this value.
    pub fn new(value: impl Into<String>) -> Text {
        Text(RwLock::new(value.into()))
    }

    /// The value now.
    pub fn get(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Clone for Text {
    fn clone(&self) -> Text {
        Text::new(self.get())
    }
}

impl From<String> for Text {
    fn from(value: String) -> Text {
        Text::new(value)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.get())
    }
}

/// Where an option that may change is kept.
#[derive(Debug, Clone, Copy)]
pub enum Slot<'a> {
    /// A number.
    Number(&'a Live),
    /// `true` or `false`.
    Flag(&'a Flag),
    /// Anything; [`Options::check`] has to say whether it is good.
    Text(&'a Text),
}

impl Slot<'_> {
    fn set(self, key: &str, value: &str) -> Result<()> {
        let value = value.trim();
        match self {
            Slot::Number(number) => {
                // TOML has no larger ones.
                let wanted = value.parse().ok().filter(|wanted| i64::try_from(*wanted).is_ok());
                let wanted = wanted
                    .ok_or_else(|| Error::invalid(format!("option '{key}': '{value}' is no number that fits")))?;
                number.0.store(wanted, Ordering::Relaxed);
            }
            Slot::Flag(flag) => {
                let wanted = value
                    .to_ascii_lowercase()
                    .parse()
                    .map_err(|_| Error::invalid(format!("option '{key}': '{value}' is neither true nor false")))?;
                flag.0.store(wanted, Ordering::Relaxed);
            }
            Slot::Text(text) => value.clone_into(&mut text.0.write().unwrap_or_else(PoisonError::into_inner)),
        }
        Ok(())
    }
}

/// A configuration of which some options can change while it is used.
pub trait Options: Clone + Serialize {
    /// What it configures: `backend`.
    const PROCESS: &'static str;
    /// The commented example that names every option.
    const EXAMPLE: &'static str;
    /// The options that can change.
    fn live(&self) -> Vec<(&'static str, Slot<'_>)>;
    /// Refuse values that cannot work, by name.
    fn check(&self) -> Result<()>;
}

/// Change options, all or none.
pub fn change<C: Options>(config: &C, wanted: &Changes) -> Result<()> {
    let rehearsal = config.clone();
    set(&rehearsal, wanted)?;
    rehearsal.check()?;
    set(config, wanted)?;
    for (option, value) in wanted {
        tracing::info!(option, value, "configuration changed");
    }
    Ok(())
}

fn set<C: Options>(config: &C, wanted: &Changes) -> Result<()> {
    let live = config.live();
    for (key, value) in wanted {
        let Some((_, slot)) = live.iter().find(|(name, _)| name == key) else {
            let names: Vec<&str> = live.iter().map(|(name, _)| *name).collect();
            let what = if list(config)?.iter().any(|option| option.key == *key) {
                format!("option '{key}' cannot be changed while the {} runs, only in its file", C::PROCESS)
            } else {
                format!("the {} has no option '{key}'", C::PROCESS)
            };
            return Err(Error::invalid(format!("{what}; these can be changed: {}", names.join(", "))));
        };
        slot.set(key, value)?;
    }
    Ok(())
}

/// An option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, `table.name` in a table.
    pub key: String,
    /// Its value now; masked when it is a secret.
    pub value: String,
    /// `long`, `boolean`, `String` or `String[]`.
    pub kind: &'static str,
    /// Whether it can be changed.
    pub mutable: bool,
    /// What the example configuration says about it.
    pub comment: String,
}

/// Every option of a configuration, sorted.
pub fn list<C: Options>(config: &C) -> Result<Vec<Listed>> {
    let bug = |error: &dyn std::fmt::Display| Error::bug(format!("options of the {}: {error}", C::PROCESS));
    let values = toml::Table::try_from(config).map_err(|error| bug(&error))?;
    let named: toml::Table = toml::from_str(C::EXAMPLE).map_err(|error| bug(&error))?;
    let mutable: Vec<&str> = config.live().into_iter().map(|(name, _)| name).collect();
    let mut found = Vec::new();
    let mut add = |key: String, shown: &toml::Value, now: Option<&toml::Value>| {
        let comment = comment_of(C::EXAMPLE, &key);
        found.push(Listed {
            kind: kind_of(shown),
            mutable: mutable.contains(&key.as_str()),
            comment,
            ..valued(key, now)
        });
    };
    for (key, shown) in &named {
        let now = values.get(key);
        match shown {
            toml::Value::Table(inner) => {
                for (name, shown) in inner {
                    add(format!("{key}.{name}"), shown, now.and_then(|table| table.get(name)));
                }
            }
            shown => add(key.clone(), shown, now),
        }
    }
    found.sort_by(|left, right| left.key.cmp(&right.key));
    Ok(found)
}

/// An option without a value has the kind that the example shows.
fn kind_of(shown: &toml::Value) -> &'static str {
    match shown {
        toml::Value::Integer(_) | toml::Value::Float(_) => "long",
        toml::Value::Boolean(_) => "boolean",
        toml::Value::Array(_) => "String[]",
        toml::Value::String(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => "String",
    }
}

fn valued(key: String, now: Option<&toml::Value>) -> Listed {
    // Where a secret lies is none.
    let secret = is_secret_key(&key) && !key.ends_with("_file");
    let value = if secret { MASK.to_owned() } else { now.map_or_else(String::new, plain) };
    Listed { key, value, kind: "String", mutable: false, comment: String::new() }
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What the example says beside an option, or in the lines above it.
fn comment_of(example: &str, key: &str) -> String {
    let (table, name) = key.rsplit_once('.').map_or(("", key), |(table, name)| (table, name));
    let (mut above, mut inside) = (Vec::new(), "");
    for line in example.lines() {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            inside = header.0;
        }
        let option = line.split_once('=').map(|(option, _)| option.trim());
        if inside == table && option == Some(name) {
            let beside = line.split_once(" # ").map(|(_, comment)| comment.trim().to_owned());
            return beside.unwrap_or_else(|| above.join(" "));
        }
        match line.strip_prefix('#') {
            Some(comment) => above.push(comment.trim()),
            // Options that follow each other share what stands above the first.
            None if option.is_some() => {}
            None => above.clear(),
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Serialize)]
    struct Config {
        rate: Live,
        open: Flag,
        dirs: Vec<String>,
        none: Option<String>,
        secret_key: String,
        secret_file: String,
        log: Log,
    }

    #[derive(Clone, Serialize)]
    struct Log {
        rate: Text,
    }

    impl Options for Config {
        const PROCESS: &'static str = "thing";
        const EXAMPLE: &'static str = "# Places\n# of data.\ndirs = []\nsecret_file = \"\"\n\nrate = 5   # per second\n\
                                       none = \"\"\nopen = false  # door\nsecret_key = \"\"\n[log]\nrate = \"slow\"   # of words\n";

        fn live(&self) -> Vec<(&'static str, Slot<'_>)> {
            vec![
                ("log.rate", Slot::Text(&self.log.rate)),
                ("open", Slot::Flag(&self.open)),
                ("rate", Slot::Number(&self.rate)),
            ]
        }

        fn check(&self) -> Result<()> {
            if self.rate.get() > 100 { Err(Error::invalid("config rate: at most 100")) } else { Ok(()) }
        }
    }

    fn config() -> Config {
        Config {
            rate: Live::new(5),
            open: Flag::new(false),
            dirs: vec!["/a".to_owned(), "/b".to_owned()],
            none: None,
            secret_key: "s".to_owned(),
            secret_file: "/f".to_owned(),
            log: Log { rate: Text::new("fast") },
        }
    }

    fn changes(pairs: &[(&str, &str)]) -> Changes {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_option_has_its_value_now_and_its_comment() {
        let config = config();
        change(&config, &changes(&[("rate", " 9 "), ("open", "TRUE"), ("log.rate", "slower")])).unwrap();
        let found = list(&config).unwrap();
        let shown: Vec<_> =
            found.iter().map(|o| (o.key.as_str(), o.value.as_str(), o.kind, o.mutable, o.comment.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("dirs", "/a, /b", "String[]", false, "Places of data."),
                ("log.rate", "slower", "String", true, "of words"),
                ("none", "", "String", false, ""),
                ("open", "true", "boolean", true, "door"),
                ("rate", "9", "long", true, "per second"),
                ("secret_file", "/f", "String", false, "Places of data."),
                ("secret_key", MASK, "String", false, ""),
            ]
        );
        assert_eq!(config.rate.clone().get_u32(), 9);
    }

    #[test]
    fn what_cannot_be_is_said_and_nothing_changes() {
        let config = config();
        for (wanted, says) in [
            (("rate", "many"), "'many' is no number"),
            (("rate", "18446744073709551615"), "no number that fits"),
            (("rate", "101"), "at most 100"),
            (("open", "7"), "'7' is neither true nor false"),
            (
                ("dirs", "x"),
                "'dirs' cannot be changed while the thing runs, only in its file; these can be changed: log.rate, open, rate",
            ),
            (("other", "x"), "the thing has no option 'other'; these can be changed: log.rate"),
        ] {
            let error = change(&config, &changes(&[("log.rate", "other"), wanted])).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
        assert_eq!((config.log.rate.get().as_str(), config.rate.get(), config.open.get()), ("fast", 5, false));
    }

    #[test]
    fn texts_come_from_files_and_go_back() {
        #[derive(Serialize, Deserialize)]
        struct One {
            text: Text,
        }
        let one: One = toml::from_str("text = 'a'").unwrap();
        assert_eq!(toml::to_string(&one).unwrap().trim(), "text = \"a\"");
    }
}
