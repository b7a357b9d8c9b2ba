//! Which processes a local cluster has, and on which ports; pure.
//!
//! With a port base P, ports are consecutive: each frontend takes three (MySQL, HTTP, gRPC), then each backend two
//! (gRPC, HTTP), then each broker two (gRPC, HTTP). One frontend, three backends and one broker take P to P+10.

use crate::cli::UpArgs;
use crate::cluster::state::{Addresses, Node, Role};
use coffer_stdx::{Error, Result};

/// Most backends of a local cluster; with the standard ports their ranges (8040, 9050 and up) must not meet others.
const MAX_BACKENDS: u16 = 100;
/// Most brokers of a local cluster; 8000 + 2n must stay below the frontend's 8030.
const MAX_BROKERS: u16 = 15;
/// Most frontends of a local cluster; 8030 + n must stay below the backends' 8040.
const MAX_FRONTENDS: u16 = 9;
/// Everything listens on loopback.
const HOST: &str = "127.0.0.1";

/// The nodes that `up` was asked for.
pub(crate) fn plan(args: &UpArgs) -> Result<Vec<Node>> {
    check(args)?;
    let mut ports = match args.port_base {
        Some(base) => Ports::Consecutive { next: u32::from(base) },
        None => Ports::Standard,
    };
    let mut nodes = Vec::new();
    for n in 0..args.frontends {
        let [mysql, http, grpc] = ports.take([9030 + n, 8030 + n, 9010 + n])?;
        nodes.push(Node::new(
            Role::Frontend,
            n + 1,
            Addresses { mysql: Some(at(mysql)), http: at(http), grpc: at(grpc) },
        ));
    }
    for n in 0..args.backends {
        let [grpc, http] = ports.take([9050 + n, 8040 + n])?;
        nodes.push(Node::new(Role::Backend, n + 1, Addresses { mysql: None, http: at(http), grpc: at(grpc) }));
    }
    for n in 0..args.brokers {
        let [grpc, http] = ports.take([8000 + 2 * n, 8001 + 2 * n])?;
        nodes.push(Node::new(Role::Broker, n + 1, Addresses { mysql: None, http: at(http), grpc: at(grpc) }));
    }
    Ok(nodes)
}

fn check(args: &UpArgs) -> Result<()> {
    match (args.frontends, args.backends, args.brokers) {
        (0, _, _) => Err(Error::invalid("a cluster needs a frontend: --frontends 1")),
        (frontends, _, _) if frontends > MAX_FRONTENDS => {
            Err(Error::invalid(format!("{frontends} frontends: a local cluster has at most {MAX_FRONTENDS}")))
        }
        (_, 0, _) => Err(Error::invalid("a cluster needs a backend: --backends 1 or more")),
        (_, backends, _) if backends > MAX_BACKENDS => {
            Err(Error::invalid(format!("{backends} backends: a local cluster has at most {MAX_BACKENDS}")))
        }
        (_, _, brokers) if brokers > MAX_BROKERS => {
            Err(Error::invalid(format!("{brokers} brokers: a local cluster has at most {MAX_BROKERS}")))
        }
        _ => Ok(()),
    }
}

fn at(port: u16) -> String {
    format!("{HOST}:{port}")
}

enum Ports {
    Standard,
    Consecutive { next: u32 },
}

impl Ports {
    fn take<const N: usize>(&mut self, standard: [u16; N]) -> Result<[u16; N]> {
        let Ports::Consecutive { next } = self else { return Ok(standard) };
        let mut taken = standard;
        for port in &mut taken {
            *port = u16::try_from(*next).map_err(|_| Error::invalid("the ports run past 65535: lower --port-base"))?;
            *next += 1;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(backends: u16, brokers: u16, port_base: Option<u16>) -> UpArgs {
        UpArgs { dir: "d".into(), frontends: 1, backends, brokers, port_base, repos: Vec::new(), timeout: 1 }
    }

    fn ports(nodes: &[Node]) -> Vec<String> {
        let all = nodes.iter().flat_map(|node| node.addresses.all());
        all.map(|(_, address)| address.rsplit_once(':').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_base_gives_consecutive_ports() {
        let nodes = plan(&args(3, 1, Some(20000))).unwrap();
        let expected: Vec<String> = (20000..20011).map(|port: u16| port.to_string()).collect();
        let mut taken = ports(&nodes);
        taken.sort();
        assert_eq!(taken, expected);
        assert_eq!(nodes[1].addresses.grpc, "127.0.0.1:20003");
        assert_eq!(
            nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
            ["fe-1", "be-1", "be-2", "be-3", "broker-1"]
        );
    }

    #[test]
    fn without_a_base_the_ports_are_the_known_ones_and_all_different() {
        let nodes = plan(&args(MAX_BACKENDS, MAX_BROKERS, None)).unwrap();
        let mut all = ports(&nodes);
        assert_eq!(all[..7], ["9030", "8030", "9010", "8040", "9050", "8041", "9051"]);
        let before = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), before);
    }

    #[test]
    fn several_frontends_have_ports_of_their_own() {
        let three = UpArgs { frontends: 3, ..args(1, 0, None) };
        let ports = ports(&plan(&three).unwrap());
        assert_eq!(ports[..9], ["9030", "8030", "9010", "9031", "8031", "9011", "9032", "8032", "9012"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(plan(&args(0, 1, None)).is_err());
        assert!(plan(&args(MAX_BACKENDS + 1, 1, None)).is_err());
        assert!(plan(&args(1, MAX_BROKERS + 1, None)).is_err());
        assert!(plan(&args(3, 1, Some(65530))).is_err());
        let many = UpArgs { frontends: MAX_FRONTENDS + 1, ..args(1, 1, None) };
        assert!(plan(&many).unwrap_err().message().contains("at most"));
    }
}
