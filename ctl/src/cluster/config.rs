//! The configuration file of each process of a local cluster; pure.

use crate::cluster::state::{Home, Node, Role};
use coffer_stdx::{Error, Result};
use std::path::PathBuf;
use toml::{Table, Value};

/// The TOML of a node. `helper`: gRPC address of the first frontend. `measured`: brokers also serve a sink,
/// and backends merge nothing, because files that are measured must hold still.
pub(crate) fn render(
    home: &Home,
    node: &Node,
    (local_roots, helper): (&[PathBuf], Option<&str>),
    measured: bool,
) -> Result<String> {
    let data = text(&home.data(&node.name))?;
    let mut table = Table::new();
    let mut set = |key: &str, value: Value| table.insert(key.to_owned(), value);
    let addresses = &node.addresses;
    match node.role {
        Role::Frontend => {
            set("host", "127.0.0.1".into());
            set("meta_dir", data.into());
            set("metadata_key_file", text(&home.metadata_key())?.into());
            set("mysql_listen", addresses.mysql.clone().unwrap_or_default().into());
            set("http_listen", addresses.http.clone().into());
            set("grpc_listen", addresses.grpc.clone().into());
            if let Some(helper) = helper.filter(|helper| *helper != addresses.grpc) {
                set("helper", helper.into());
            }
        }
        Role::Backend => {
            set("data_dirs", vec![Value::from(data)].into());
            set("grpc_listen", addresses.grpc.clone().into());
            set("http_listen", addresses.http.clone().into());
            if measured {
                set("compaction_workers", 0_i64.into());
            }
        }
        Role::Broker => {
            set("listen", addresses.grpc.clone().into());
            set("http_listen", addresses.http.clone().into());
            if measured {
                set("allow_null", true.into());
            }
        }
    }
    set("cluster_secret_file", text(&home.secret())?.into());
    let roots = local_roots.iter().map(|root| text(root).map(Value::from)).collect::<Result<Vec<_>>>()?;
    set("local_roots", roots.into());
    let body = toml::to_string(&table).map_err(|error| Error::bug(format!("configuration: {error}")))?;
    Ok(format!("# {}, written by cofferctl.\n{body}", node.name))
}

fn text(path: &std::path::Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Error::invalid(format!("path {} is not UTF-8", path.display())))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::state::Addresses;
    use std::path::Path;

    #[test]
    fn each_role_gets_its_keys() {
        let home = Home::new(Path::new("/c")).unwrap();
        let addresses = Addresses { mysql: Some("h:1".into()), http: "h:2".into(), grpc: "h:3".into() };
        let rendered = |role, helper| {
            let node = Node::new(role, 1, addresses.clone());
            super::render(&home, &node, (&["/c/repos".into()], helper), false).unwrap()
        };
        let render = |role| rendered(role, Some("h:3"));
        let backend = Node::new(Role::Backend, 1, addresses.clone());
        let measured = super::render(&home, &backend, (&[], None), true).unwrap();
        assert!(measured.contains("compaction_workers = 0") && !render(Role::Backend).contains("compaction"));
        let first = render(Role::Frontend);
        assert!(
            first.contains("meta_dir = \"/c/fe-1\"\nmetadata_key_file = \"/c/metadata.key\"\nmysql_listen = \"h:1\"")
                && !first.contains("helper")
        );
        assert!(rendered(Role::Frontend, Some("h:9")).contains("helper = \"h:9\""));
        assert!(render(Role::Backend).contains("data_dirs = [\"/c/be-1\"]\ngrpc_listen = \"h:3\""));
        assert!(render(Role::Broker).contains("listen = \"h:3\"\nlocal_roots = [\"/c/repos\"]"));
    }
}
