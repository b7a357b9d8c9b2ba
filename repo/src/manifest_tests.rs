//! Manifest parts: round trips, damage, foreign and newer parts.

use super::*;
use crate::layout::PackId;
use crate::manifest::{FileRecord, ManifestWriter, RowsetRecord};
use coffer_stdx::ErrorKind;
use futures::{StreamExt, stream};
use proptest::prelude::*;

fn snapshot() -> SnapshotId {
    SnapshotId::new("label", "2022-04-08-15-52-29").unwrap()
}

fn tablet(id: u64, files: u64) -> TabletRecord {
    let file = |n: u64| FileRecord {
        name: format!("{id}_{n}.parquet"),
        blake3: Bytes::copy_from_slice(Checksum::of(&n.to_le_bytes()).as_bytes()),
        pack: Bytes::copy_from_slice(&[7; 16]),
        offset: 16 + n,
        length: n,
        rows: 2,
    };
    let rowset =
        RowsetRecord { start_version: 2, end_version: 3, rows: 2 * files, files: (0..files).map(file).collect() };
    TabletRecord {
        tablet_id: id,
        table_id: 1,
        partition_id: 2,
        version: 3,
        rows: 2 * files,
        rowsets: vec![rowset],
        deletes: Vec::new(),
    }
}

fn write(tablets: &[TabletRecord]) -> (String, Vec<u8>) {
    let mut writer = ManifestWriter::new(Vec::new(), &snapshot(), 4).unwrap();
    for tablet in tablets {
        writer.tablet(tablet.clone()).unwrap();
    }
    let (part, bytes) = writer.finish().unwrap();
    assert_eq!(part.bytes, bytes.len() as u64);
    assert_eq!(part.counts.tablets, tablets.len() as u64);
    (part.name, bytes)
}

async fn read(name: &str, bytes: &[u8], chunk: usize) -> Result<Vec<TabletRecord>> {
    let chunks: Vec<Result<Bytes>> = bytes.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let mut reader = ManifestReader::new(stream::iter(chunks).boxed(), &snapshot(), name, "path".to_owned())?;
    let mut tablets = Vec::new();
    while let Some(tablet) = reader.next().await? {
        tablets.push(tablet);
    }
    assert_eq!(reader.next().await?, None);
    Ok(tablets)
}

#[tokio::test]
async fn parts_read_back_in_chunks_of_any_size() {
    for tablets in [vec![], vec![tablet(1, 0)], vec![tablet(1, 2), tablet(2, 3), tablet(3, 0)]] {
        let (name, bytes) = write(&tablets);
        for chunk in [1, 7, 4096] {
            assert_eq!(read(&name, &bytes, chunk).await.unwrap(), tablets);
        }
    }
    let file = &tablet(1, 1).rowsets[0].files[0];
    assert_eq!(file.checksum().unwrap(), Checksum::of(&0_u64.to_le_bytes()));
    assert_eq!(file.pack_id().unwrap(), PackId::from_slice(&[7; 16]).unwrap());
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_is_seen() {
    let (name, bytes) = write(&[tablet(1, 1)]);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(read(&name, &bad, 64).await.is_err(), "bit {bit} of byte {at}");
        }
        assert_eq!(read(&name, &bytes[..at], 64).await.unwrap_err().kind(), ErrorKind::Corrupt, "cut at {at}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(read(&name, &longer, 64).await.unwrap_err().message().contains("goes on"));
}

#[tokio::test]
async fn foreign_and_newer_parts_are_refused() {
    let (name, mut bytes) = write(&[]);
    let other = SnapshotId::new("other", "2022-04-08-15-52-29").unwrap();
    let body = coffer_store::from_bytes(bytes.clone());
    let mut reader = ManifestReader::new(body, &other, &name, "path".to_owned()).unwrap();
    assert!(reader.next().await.unwrap_err().message().contains("'label'"));
    let later = SnapshotId::new("label", "2022-04-08-15-52-30").unwrap();
    assert!(ManifestReader::new(coffer_store::from_bytes(""), &later, &name, String::new()).is_err());
    bytes[8] = 9;
    let error = read(&name, &bytes, 64).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.message().contains("version 9"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_tablets_read_back(shapes in proptest::collection::vec((any::<u64>(), 0_u64..5), 0..6), chunk in 1_usize..200) {
        let tablets: Vec<TabletRecord> = shapes.iter().map(|(id, files)| tablet(*id, *files)).collect();
        let (name, bytes) = write(&tablets);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(read(&name, &bytes, chunk)).unwrap(), tablets);
    }
}
