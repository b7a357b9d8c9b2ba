//! Which DataNode a write failed at. hdfs-native reports "connection refused" without an address, and does not show
//! where a block was to go; so after a failure the NameNode is asked for the locations of the file's last block, in a
//! few lines of Hadoop's RPC, and each of them is tried. With Kerberos the question is not asked: the message then names
//! the cluster only.
//!
//! A DataNode whose disk is full just ends the connection. The NameNode knows how much room it has, a heartbeat late. What
//! counts as full is what the DataNode itself has for `dfs.blocksize`: hdfs-native does not tell it how large blocks are.

use super::pool::Cluster;
use super::settings::ClusterSettings;
use coffer_stdx::Error;
use prost::Message;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

/// For the question to one NameNode.
const ASK_WITHIN: Duration = Duration::from_secs(3);
/// For one connection to a DataNode.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Largest answer, bytes.
const ANSWER_BYTES: usize = 1 << 20;
/// A DataNode that takes connections and yet failed may be full, which the NameNode learns from its next heartbeat: how
/// often to ask, and how long to wait before each time but the first.
const ROOM_ASKED: u32 = 5;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// What a DataNode usually wants to have free for one more block, bytes.
const USUAL_BLOCK: u64 = 128 << 20;
/// DataNodes tried.
const MOST_DATANODES: usize = 8;

const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
/// "hrpc", version 9, service class 0, no authentication.
const PREAMBLE: &[u8] = b"hrpc\x09\x00\x00";
const CONTEXT_CALL: i32 = -3;

/// `error` with the DataNodes that are to blame, when they can be found. `path` is the file that was being written, in
/// blocks of so many bytes.
pub(super) async fn explain(cluster: &Cluster, path: &str, block_bytes: Option<u64>, error: Error) -> Error {
    let settings = &cluster.settings;
    if settings.kerberos.is_some() {
        let cause = "a DataNode failed: set dfs.data.transfer.protection as the cluster's hdfs-site.xml has it; when \
                     DataNodes announce addresses that cannot be reached from here, set \
                     dfs.client.use.datanode.hostname = true";
        return Error::new(error.kind(), format!("{}; {cause}", error.message()));
    }
    let block = block_bytes.unwrap_or(USUAL_BLOCK).max(USUAL_BLOCK);
    let doing = error.message().split_once(": ").map_or(error.message(), |(doing, _)| doing);
    let no_room = |of: String, free: u64| {
        Error::no_space(format!(
            "{doing}: {of} has no room for another block, {} MiB are left on its disks; free space or add DataNodes",
            free >> 20
        ))
    };
    let mut said = Vec::new();
    for asked in 0..ROOM_ASKED {
        if asked > 0 {
            tokio::time::sleep(HEARTBEAT).await;
        }
        said = tried(settings, path).await;
        if said.iter().any(|node| !node.answers) || said.is_empty() {
            break;
        }
        if let Some(full) = said.iter().find(|node| node.is_full(block)) {
            return no_room(format!("DataNode {}", full.address), full.free);
        }
    }
    // The block was given up, so that nobody knows where it was to be.
    if said.is_empty()
        && let Some(room) = room(settings).await
        && room < block
    {
        return no_room(settings.name(), room);
    }
    let said: Vec<String> = said.into_iter().map(|node| node.said).collect();
    if said.is_empty() { error } else { Error::new(error.kind(), format!("{}; {}", error.message(), said.join("; "))) }
}

/// A DataNode that was tried.
struct Tried {
    address: String,
    answers: bool,
    free: u64,
    said: String,
}

impl Tried {
    fn is_full(&self, block: u64) -> bool {
        self.answers && self.free < block
    }
}

/// What each DataNode of the file's last block says to a connection.
async fn tried(settings: &ClusterSettings, path: &str) -> Vec<Tried> {
    let request = BlockLocationsRequest { path: path.to_owned(), offset: 0, length: i64::MAX as u64 };
    let answer = ask(settings, "getBlockLocations", &request.encode_length_delimited_to_vec()).await;
    let nodes = answer.and_then(|answer| located(&answer));
    let nodes = nodes.unwrap_or_default();
    let tries = nodes.iter().take(MOST_DATANODES).filter_map(|node| {
        let id = node.id.as_ref()?;
        Some(async move {
            let (address, fault) = describe(id, settings.by_hostname()).await;
            let (answers, free) = (fault.is_none(), node.remaining);
            let said = fault.unwrap_or_else(|| format!("DataNode {address} accepts connections"));
            Tried { address, answers, free, said }
        })
    });
    futures::future::join_all(tries).await
}

/// Its address as it is used, and why it cannot be reached, if so.
async fn describe(node: &DatanodeId, by_hostname: bool) -> (String, Option<String>) {
    let (by_ip, by_name) =
        (format!("{}:{}", node.ip_addr, node.xfer_port), format!("{}:{}", node.host_name, node.xfer_port));
    let (used, other) = if by_hostname { (by_name, by_ip) } else { (by_ip, by_name) };
    let Err(cause) = connects(&used).await else { return (used, None) };
    let advice = match (used != other && connects(&other).await.is_ok(), by_hostname) {
        (true, false) => format!("; it is reached as {other}: set dfs.client.use.datanode.hostname = true"),
        (true, true) => format!("; it is reached as {other}: set dfs.client.use.datanode.hostname = false"),
        (false, false) => format!(
            "; is it running? When its address cannot be reached from here but its name {} can, set \
             dfs.client.use.datanode.hostname = true",
            node.host_name
        ),
        (false, true) => "; is it running, and does its name lead to it from here?".to_owned(),
    };
    let said = format!("DataNode {used} ({}) cannot be reached: {cause}{advice}", node.host_name);
    (used, Some(said))
}

async fn connects(address: &str) -> Result<(), String> {
    match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECT_WITHIN.as_secs())),
    }
}

/// Bytes left on the disks of all DataNodes.
async fn room(settings: &ClusterSettings) -> Option<u64> {
    // A request without fields.
    let answer = ask(settings, "getFsStats", &[0]).await?;
    let mut answer = answer.as_slice();
    ResponseHeader::decode_length_delimited(&mut answer).ok()?;
    let stats = StatsResponse::decode_length_delimited(&mut answer).ok()?;
    // Without a live DataNode there are no disks at all, which is another matter.
    (stats.capacity > 0).then_some(stats.remaining)
}

/// Ask the NameNodes in turn.
async fn ask(settings: &ClusterSettings, method: &str, request: &[u8]) -> Option<Vec<u8>> {
    for namenode in &settings.namenodes {
        let asked = timeout(ASK_WITHIN, ask_one(settings, &namenode.address, method, request)).await;
        if let Some(answer) = asked.ok().flatten() {
            return Some(answer);
        }
    }
    None
}

/// Ask a NameNode.
async fn ask_one(settings: &ClusterSettings, address: &str, method: &str, request: &[u8]) -> Option<Vec<u8>> {
    let mut connection = TcpStream::connect(address).await.ok()?;
    let mut sent = PREAMBLE.to_vec();
    let client: Vec<u8> = Uuid::new_v4().as_bytes().to_vec();
    let user = UserInformation { effective_user: settings.user.clone().or_else(own_user) };
    let context = ConnectionContext { user: Some(user), protocol: Some(PROTOCOL.to_owned()) };
    frame(&mut sent, &[&header(&client, CONTEXT_CALL), &context.encode_length_delimited_to_vec()]);
    let method = RequestHeader { method: method.to_owned(), protocol: PROTOCOL.to_owned(), version: 1 };
    frame(&mut sent, &[&header(&client, 0), &method.encode_length_delimited_to_vec(), request]);
    connection.write_all(&sent).await.ok()?;
    let length = connection.read_u32().await.ok()? as usize;
    if length > ANSWER_BYTES {
        return None;
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).await.ok()?;
    // A NameNode that stands by refuses.
    let head = ResponseHeader::decode_length_delimited(answer.as_slice()).ok()?;
    (head.status == 0).then_some(answer)
}

fn located(answer: &[u8]) -> Option<Vec<DatanodeInfo>> {
    let mut answer = answer;
    let header = ResponseHeader::decode_length_delimited(&mut answer).ok()?;
    if header.status != 0 {
        return None;
    }
    let blocks = BlockLocationsResponse::decode_length_delimited(&mut answer).ok()?.blocks?;
    let block = blocks.last.or_else(|| blocks.blocks.into_iter().next_back())?;
    Some(block.nodes)
}

/// Who this process is, as Hadoop's client and hdfs-native see it.
fn own_user() -> Option<String> {
    std::env::var("HADOOP_USER_NAME").or_else(|_| std::env::var("USER")).ok().or_else(|| Some("root".to_owned()))
}

fn header(client: &[u8], call: i32) -> Vec<u8> {
    let header = RequestHead { kind: 2, operation: 0, call, client: client.to_vec(), retry: -1 };
    header.encode_length_delimited_to_vec()
}

/// Append a message of these parts, with its length.
fn frame(sent: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    sent.extend_from_slice(&(length as u32).to_be_bytes());
    parts.iter().for_each(|part| sent.extend_from_slice(part));
}

#[derive(Clone, PartialEq, Message)]
struct RequestHead {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    // Written even when it is 0, which the NameNode insists on.
    #[prost(int32, required, tag = "2")]
    operation: i32,
    #[prost(sint32, required, tag = "3")]
    call: i32,
    #[prost(bytes = "vec", required, tag = "4")]
    client: Vec<u8>,
    #[prost(sint32, tag = "5")]
    retry: i32,
}

#[derive(Clone, PartialEq, Message)]
struct UserInformation {
    #[prost(string, optional, tag = "1")]
    effective_user: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ConnectionContext {
    #[prost(message, optional, tag = "2")]
    user: Option<UserInformation>,
    #[prost(string, optional, tag = "3")]
    protocol: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestHeader {
    #[prost(string, required, tag = "1")]
    method: String,
    #[prost(string, required, tag = "2")]
    protocol: String,
    #[prost(uint64, required, tag = "3")]
    version: u64,
}

#[derive(Clone, PartialEq, Message)]
struct BlockLocationsRequest {
    #[prost(string, required, tag = "1")]
    path: String,
    #[prost(uint64, required, tag = "2")]
    offset: u64,
    #[prost(uint64, required, tag = "3")]
    length: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint32, required, tag = "1")]
    call: u32,
    #[prost(int32, required, tag = "2")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StatsResponse {
    #[prost(uint64, required, tag = "1")]
    capacity: u64,
    #[prost(uint64, required, tag = "3")]
    remaining: u64,
}

#[derive(Clone, PartialEq, Message)]
struct BlockLocationsResponse {
    #[prost(message, optional, tag = "1")]
    blocks: Option<LocatedBlocks>,
}

#[derive(Clone, PartialEq, Message)]
struct LocatedBlocks {
    #[prost(message, repeated, tag = "2")]
    blocks: Vec<LocatedBlock>,
    #[prost(message, optional, tag = "4")]
    last: Option<LocatedBlock>,
}

#[derive(Clone, PartialEq, Message)]
struct LocatedBlock {
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<DatanodeInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct DatanodeInfo {
    #[prost(message, optional, tag = "1")]
    id: Option<DatanodeId>,
    /// Bytes left on its disks.
    #[prost(uint64, tag = "4")]
    remaining: u64,
}

#[derive(Clone, PartialEq, Message)]
struct DatanodeId {
    #[prost(string, required, tag = "1")]
    ip_addr: String,
    #[prost(string, required, tag = "2")]
    host_name: String,
    #[prost(uint32, required, tag = "4")]
    xfer_port: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_tells_the_datanodes() {
        let node = |port| DatanodeInfo {
            id: Some(DatanodeId { ip_addr: "10.0.0.1".to_owned(), host_name: "dn".to_owned(), xfer_port: port }),
            remaining: 7,
        };
        let block = |port| LocatedBlock { nodes: vec![node(port)] };
        let answer = |status, last| {
            let blocks = LocatedBlocks { blocks: vec![block(1), block(2)], last };
            let mut bytes = ResponseHeader { call: 0, status }.encode_length_delimited_to_vec();
            bytes.extend(BlockLocationsResponse { blocks: Some(blocks) }.encode_length_delimited_to_vec());
            bytes
        };
        let port = |bytes: Vec<u8>| located(&bytes).map(|nodes| nodes[0].id.clone().unwrap().xfer_port);
        assert_eq!(port(answer(0, Some(block(3)))), Some(3));
        assert_eq!(port(answer(0, None)), Some(2));
        assert_eq!(port(answer(1, None)), None);
        assert_eq!(located(b"nonsense"), None);
        assert_eq!(located(&answer(0, None)).unwrap()[0].remaining, 7);
    }

    #[test]
    fn requests_say_their_operation_although_it_is_0() {
        assert_eq!(header(b"c", -3), [11, 8, 2, 16, 0, 24, 5, 34, 1, b'c', 40, 1]);
    }

    #[tokio::test]
    async fn a_datanode_that_is_reached_by_name_only_gets_that_advice() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let xfer_port = u32::from(listener.local_addr().unwrap().port());
        let node = |ip: &str, host: &str| DatanodeId { ip_addr: ip.to_owned(), host_name: host.to_owned(), xfer_port };
        // Nobody listens on 127.0.0.2, as the listener took one address only.
        let said = describe(&node("127.0.0.2", "127.0.0.1"), false).await.1.unwrap();
        assert!(said.contains(&format!("DataNode 127.0.0.2:{xfer_port} (127.0.0.1) cannot be reached")), "{said}");
        assert!(said.contains("set dfs.client.use.datanode.hostname = true"), "{said}");
        let said = describe(&node("127.0.0.1", "127.0.0.2"), true).await.1.unwrap();
        assert!(said.contains("set dfs.client.use.datanode.hostname = false"), "{said}");
        assert_eq!(describe(&node("127.0.0.1", "dn"), false).await, (format!("127.0.0.1:{xfer_port}"), None));
        drop(listener);
        let said = describe(&node("127.0.0.1", "127.0.0.1"), false).await.1.unwrap();
        assert!(said.contains("is it running?"), "{said}");
    }
}
