//! What `coffer-fe` does besides serving: means for bad days. All work on the metadata directory of a frontend that does not
//! run, and say what they did.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::raft::offline::{self, Offline};
use clap::Subcommand;
use coffer_stdx::secret::{MASK, is_secret_key};
use serde::Serialize;
use serde_json::Value;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Fields of users and frontends that are not shown, besides those whose name says that they are secret.
const HIDDEN: [&str; 2] = ["sha1", "sha256"];

/// One of them.
#[derive(Debug, Clone, Subcommand)]
pub enum Tool {
    /// Print the metadata as JSON, secrets masked. Changes nothing.
    Dump,
    /// Write the metadata, with its secrets, into a new file with checksums.
    Export {
        /// The file; it must not exist.
        #[arg(long)]
        to: PathBuf,
    },
    /// Make a new metadata directory from an exported file: the cluster's only frontend.
    Import {
        /// A file that `export` wrote.
        #[arg(long)]
        from: PathBuf,
    },
    /// Make this frontend the only one of its cluster, with what it has. For when a majority of the frontends is lost for
    /// good: what only they had is lost, and none of them may ever start again with its old metadata directory.
    RecoverSingle {
        /// Say that the other frontends are stopped and will not come back.
        #[arg(long)]
        the_other_frontends_are_gone: bool,
    },
}

/// Do it; what is to be printed goes to `out`.
pub fn run(tool: &Tool, config: &Config, out: impl Write) -> Result<()> {
    let mut out = BufWriter::new(out);
    let dir = &config.meta_dir;
    match tool {
        Tool::Dump => dump(&Offline::open(dir)?, &mut out)?,
        Tool::Export { to } => {
            let offline = Offline::open(dir)?;
            let bytes = offline.export(to)?;
            writeln!(out, "exported to {}: {bytes} bytes, up to {}", to.display(), offline.about())?;
        }
        Tool::Import { from } => {
            let offline = offline::import(dir, from, &config.grpc_address())?;
            writeln!(out, "imported into {}: {}", dir.display(), offline.about())?;
            writeln!(out, "start this frontend, then add others; none may start with an older directory")?;
        }
        Tool::RecoverSingle { the_other_frontends_are_gone } => {
            recover(config, *the_other_frontends_are_gone, &mut out)?;
        }
    }
    Ok(out.flush()?)
}

fn recover(config: &Config, confirmed: bool, out: &mut impl Write) -> Result<()> {
    let offline = Offline::open(&config.meta_dir)?;
    writeln!(out, "{}", offline.about())?;
    writeln!(
        out,
        "WARNING: this makes frontend {} the only one of its cluster, with what it has. What only the others had is lost, \
         also when it was acknowledged. The others must be stopped, and their metadata directories removed: one that starts \
         with its old directory would found a second cluster over the same backends.",
        config.grpc_address()
    )?;
    if !confirmed {
        return Err(Error::invalid(
            "nothing was changed; say --the-other-frontends-are-gone when they are stopped for good",
        ));
    }
    let (before, others) = offline.recover_single(&config.grpc_address())?;
    writeln!(out, "recovered; what was before is kept in {}", before.display())?;
    let others: Vec<String> = others.iter().map(u64::to_string).collect();
    writeln!(out, "frontends left out: {}; add them again with empty directories", others.join(", "))?;
    Ok(())
}

/// One JSON object; a table, load or job at a time is in memory beside the state.
fn dump(offline: &Offline, out: &mut impl Write) -> Result<()> {
    use crate::catalog::map::Map;
    let state = offline.state();
    let core = crate::meta::state::State {
        databases: Map::new(),
        transactions: Map::new(),
        backups: Map::new(),
        restores: Map::new(),
        bin: Map::new(),
        ..state.clone()
    };
    write!(out, "{{\n\"about\": {},\n\"core\": {},\n\"databases\": [", offline.about(), shown(&core)?)?;
    for (at, database) in state.databases.values().enumerate() {
        let (comma, id) = (if at == 0 { "" } else { "," }, database.id);
        write!(out, "{comma}\n{{\"id\": {id}, \"name\": {}, \"tables\": ", shown(&database.name)?)?;
        list(out, database.tables.values())?;
        write!(out, "}}")?;
    }
    write!(out, "],\n\"transactions\": ")?;
    list(out, state.transactions.values())?;
    write!(out, ",\n\"backups\": ")?;
    list(out, state.backups.values())?;
    write!(out, ",\n\"restores\": ")?;
    list(out, state.restores.values())?;
    Ok(writeln!(out, "\n}}")?)
}

fn list<'a, T: Serialize + 'a>(out: &mut impl Write, items: impl Iterator<Item = &'a T>) -> Result<()> {
    write!(out, "[")?;
    for (at, item) in items.enumerate() {
        write!(out, "{}\n{}", if at == 0 { "" } else { "," }, shown(item)?)?;
    }
    Ok(write!(out, "]")?)
}

fn shown(value: &impl Serialize) -> Result<Value> {
    let mut value = serde_json::to_value(value).map_err(|error| Error::bug(format!("dump: {error}")))?;
    mask(&mut value);
    Ok(value)
}

/// Whatever a field's name gives away as a secret is hidden, at any depth.
fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if value.is_null() || value.is_boolean() {
                    continue;
                }
                if is_secret_key(name) || HIDDEN.contains(&name.as_str()) {
                    *value = Value::from(MASK);
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_at_any_depth() {
        let mut value = serde_json::json!({
            "users": {"root": {"sha1": [1, 2], "sha256": null, "admin": true}},
            "repositories": [{"name": "r", "properties": {"s3.secret_key": "x", "s3.region": "y"}}],
        });
        mask(&mut value);
        let text = value.to_string();
        assert!(!text.contains("[1,2]") && !text.contains("\"x\""), "{text}");
        assert!(text.contains("\"s3.region\":\"y\"") && text.contains("\"sha256\":null") && text.contains("\"r\""));
    }
}
