//! Paths: each form, both directions, and what is refused.

use super::*;
use proptest::prelude::*;

const TS: &str = "2022-04-08-15-52-29";

#[test]
fn times_become_text_in_utc() {
    assert_eq!(timestamp_text(0), "1970-01-01-00-00-00");
    assert_eq!(timestamp_text(1_649_433_149_999), TS);
    assert_eq!(timestamp_text(951_782_400_000), "2000-02-29-00-00-00");
    assert_eq!(timestamp_text(4_107_542_399_000), "2100-02-28-23-59-59");
    assert_eq!(timestamp_text(4_107_542_400_000), "2100-03-01-00-00-00");
    assert_eq!(timestamp_text(1_735_689_599_000), "2024-12-31-23-59-59");
}

#[test]
fn the_tree_is_the_documented_one() {
    let layout = Layout::new("my-Repo_1").unwrap();
    let sum = Checksum::of(b"");
    let id = PackId::from_slice(&[0, 1, 2, 3, 4, 5, 6, 7, 0xa8, 9, 10, 11, 12, 13, 14, 15]).unwrap();
    assert_eq!(layout.root(), "__coffer_repository_my-Repo_1");
    assert_eq!(layout.repo_info(), "__coffer_repository_my-Repo_1/__repo_info");
    assert_eq!(
        layout.pack(&id),
        "__coffer_repository_my-Repo_1/packs/0001020304050607/a8/0001020304050607a8090a0b0c0d0e0f"
    );
    assert_eq!(layout.parse_pack(&layout.pack(&id)), Some(id));
    assert_eq!(layout.parse_pack(&layout.pack(&id).replace("/a8/", "/a7/")), None);
    for (kind, start) in [
        (ObjectKind::Manifest(12), "__manifest_2022-04-08-15-52-29.12."),
        (ObjectKind::Meta, "__meta_2022-04-08-15-52-29."),
        (ObjectKind::Info, "__info_2022-04-08-15-52-29."),
        (ObjectKind::Drop, "__drop_2022-04-08-15-52-29."),
    ] {
        let object = SnapshotObject { timestamp: TS.to_owned(), kind, checksum: sum };
        assert_eq!(object.name(), format!("{start}{sum}"));
        let path = layout.snapshot_object("a:b", &object.name());
        assert_eq!(path, format!("__coffer_repository_my-Repo_1/__ss_a:b/{start}{sum}"));
        assert_eq!(layout.parse_snapshot_object(&path), Some(("a:b", object)));
    }
}

#[test]
fn names_labels_and_timestamps_are_checked() {
    for good in ["a", "A:b-c_9", &"x".repeat(128)] {
        check_label(good).unwrap();
    }
    for bad in ["", "a b", "ä", "a/b", "a.b", "..", "a\n", &"x".repeat(129)] {
        assert!(check_label(bad).is_err(), "{bad}");
    }
    for bad in ["", "a:b", "a/b", &"x".repeat(65)] {
        assert!(Layout::new(bad).is_err(), "{bad}");
    }
    for bad in ["", "2022-04-08 15:52:29", "2022-04-08-15-52-2", "2022-04-08-15-52-290", "2022-04-08-15-52-2x"] {
        assert!(SnapshotId::new("l", bad).is_err(), "{bad}");
    }
    assert_eq!(SnapshotId::new("l", TS).unwrap().to_string(), "'l' of 2022-04-08-15-52-29");
}

#[test]
fn strange_file_names_are_none_of_ours() {
    let sum = Checksum::of(b"");
    for name in [
        String::new(),
        "x".to_owned(),
        format!("__info_{TS}"),
        format!("__info_{TS}.tmp"),
        format!("__info_{TS}.{sum}.tmp"),
        format!("__info_{TS}.1.{sum}"),
        format!("__manifest_{TS}.{sum}"),
        format!("__manifest_{TS}.01.{sum}"),
        format!("__manifest_{TS}.-1.{sum}"),
        format!("__other_{TS}.{sum}"),
        format!(".__info_{TS}.{sum}"),
    ] {
        assert_eq!(SnapshotObject::parse(&name), None, "{name}");
    }
}

#[test]
fn packs_of_a_job_share_its_folder_and_differ() {
    let layout = Layout::new("r").unwrap();
    let prefix = PackPrefix::random();
    assert_eq!(prefix.to_string().parse::<PackPrefix>().unwrap(), prefix);
    let (one, two) = (PackId::random(prefix, 7), PackId::random(prefix, 7));
    assert_ne!(one, two);
    assert_ne!(PackPrefix::random(), prefix);
    for id in [one, two] {
        assert_eq!(id.prefix(), prefix);
        assert!(layout.pack(&id).starts_with(&format!("{}/07/", layout.job_packs(&prefix))));
    }
    assert!("123".parse::<PackPrefix>().is_err());
}

proptest! {
    #[test]
    fn whatever_parses_is_what_we_would_write(name in "(__(manifest|meta|info)_)?[0-9-]{17,21}(\\.[0-9]{1,11})?\\.[0-9a-f]{63,65}") {
        if let Some(object) = SnapshotObject::parse(&name) {
            prop_assert_eq!(object.name(), name);
        }
    }
}
