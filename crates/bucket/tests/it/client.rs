use std::sync::Arc;

use bucket::{Bucket, Config, Error, Put};
use s3kit::{Fault, Op, Rule};

use crate::kit;

async fn behaves(bucket: &Arc<Bucket>) {
    bucket
        .put("a/b/1", "one".into(), Put::Overwrite)
        .await
        .unwrap();
    bucket
        .put("a/b/2", "second".into(), Put::Create)
        .await
        .unwrap();
    bucket
        .put("a/c", "third".into(), Put::Overwrite)
        .await
        .unwrap();
    bucket.put("a/c", "3".into(), Put::Overwrite).await.unwrap();
    assert_eq!(bucket.get("a/c").await.unwrap(), "3");
    assert_eq!(bucket.get_range("a/b/2", 1..4).await.unwrap(), "eco");
    assert_eq!(bucket.get_range("a/b/2", 4..400).await.unwrap(), "nd");
    assert_eq!(bucket.get_range("a/b/2", 4..4).await.unwrap(), "");
    let (tail, size) = bucket.get_suffix("a/b/2", 3).await.unwrap();
    assert_eq!((&tail[..], size), (&b"ond"[..], 6));
    let (tail, size) = bucket.get_suffix("a/c", 30).await.unwrap();
    assert_eq!((&tail[..], size), (&b"3"[..], 1));
    let head = bucket.head("a/b/1").await.unwrap();
    assert_eq!((head.key.as_str(), head.size), ("a/b/1", 3));
    assert!(head.modified > 1_600_000_000_000);

    let taken = bucket
        .put("a/b/2", "again".into(), Put::Create)
        .await
        .unwrap_err();
    assert!(matches!(taken, Error::Conflict { .. }), "{taken}");
    for missing in [
        bucket.get("none").await.unwrap_err(),
        bucket.get_range("none", 0..1).await.unwrap_err(),
        bucket.head("none").await.unwrap_err(),
    ] {
        assert!(missing.is_not_found(), "{missing}");
    }
    assert!(bucket.exists("a/c").await.unwrap() && !bucket.exists("a").await.unwrap());

    let mut keys = Vec::new();
    bucket
        .list("a", |object| keys.push((object.key, object.size)))
        .await
        .unwrap();
    keys.sort();
    let want = [("a/b/1", 3), ("a/b/2", 6), ("a/c", 1)];
    assert_eq!(keys, want.map(|(k, n)| (k.to_owned(), n)));
    let folder = bucket.list_folder("a").await.unwrap();
    assert_eq!(folder.folders, ["b"]);
    assert_eq!(folder.objects.len(), 1);
    assert_eq!(bucket.list_folder("").await.unwrap().folders, ["a"]);
    assert!(
        bucket
            .list_folder("nowhere")
            .await
            .unwrap()
            .folders
            .is_empty()
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("big");
    let bytes: Vec<u8> = (0..12_000_000u32).map(|i| (i / 7) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(bucket.upload_file("big", &file).await.unwrap(), 12_000_000);
    let range = bucket
        .get_range("big", 5_000_000..11_000_000)
        .await
        .unwrap();
    assert!(range[..] == bytes[5_000_000..11_000_000]);
    assert!(
        bucket
            .upload_file("gone", &dir.path().join("gone"))
            .await
            .is_err()
    );

    for key in ["a/b/1", "a/b/2", "a/c", "big", "never"] {
        bucket.delete(key).await.unwrap();
    }
    assert!(bucket.list_folder("").await.unwrap().folders.is_empty());
}

#[tokio::test]
async fn in_memory() {
    behaves(&Bucket::in_memory()).await;
}

#[tokio::test]
async fn on_disk() {
    let (dir, bucket) = kit::filesystem();
    behaves(&bucket).await;
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing stays behind: {left:?}");
}

#[tokio::test]
async fn on_s3() {
    let (server, bucket) = kit::s3();
    behaves(&bucket).await;
    assert_eq!(server.counters().of(Op::UploadPart).requests, 3);
    let first = bucket
        .put("cas", "1".into(), Put::Create)
        .await
        .unwrap()
        .unwrap();
    let second = bucket
        .put("cas", "2".into(), Put::Update(first.clone()))
        .await
        .unwrap();
    assert!(second.is_some());
    assert!(
        bucket
            .put("cas", "3".into(), Put::Update(first))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn with_a_prefix() {
    let (server, _) = kit::s3();
    let yaml = format!("{}prefix: in/here\n", kit::s3_yaml(&server));
    let config = Config::parse(&yaml).unwrap();
    let bucket = bucket::open_with(&config, kit::policy(), &metrics::Registry::new()).unwrap();
    behaves(&bucket).await;
    bucket.put("k", "v".into(), Put::Overwrite).await.unwrap();
    assert_eq!(server.keys_under(""), ["in/here/k"]);
}

#[tokio::test]
async fn passing_faults_are_not_seen() {
    let (server, bucket) = kit::s3();
    server.put("k", vec![1u8; 50_000]);
    for fault in [
        Fault::Unavailable,
        Fault::Internal,
        Fault::Hang,
        Fault::Reset,
        Fault::LostAnswer,
        Fault::Truncate(100),
    ] {
        server.faults().add(Rule::once(fault));
        assert_eq!(bucket.get("k").await.unwrap().len(), 50_000, "{fault:?}");
        server.faults().add(Rule::once(fault));
        assert_eq!(
            bucket.get_range("k", 10..20_000).await.unwrap().len(),
            19_990
        );
        if !matches!(fault, Fault::Truncate(_)) {
            server.faults().add(Rule::once(fault));
            let key = format!("new-{fault:?}");
            bucket.put(&key, "mine".into(), Put::Create).await.unwrap();
            server.faults().add(Rule::once(fault));
            let mut seen = 0;
            bucket.list("", |_| seen += 1).await.unwrap();
            assert!(seen >= 2, "{fault:?}");
        }
    }
    assert_eq!(server.faults().struck(), 6 + 6 + 5 + 5);
}

#[tokio::test]
async fn a_part_that_fails_is_sent_again() {
    let (server, bucket) = kit::s3();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    std::fs::write(&file, vec![3u8; 11 << 20]).unwrap();
    server
        .faults()
        .add(Rule::once(Fault::Reset).on(Op::UploadPart).after(1));
    bucket.upload_file("f", &file).await.unwrap();
    assert_eq!(server.get("f").unwrap().len(), 11 << 20);
    server
        .faults()
        .add(Rule::always(Fault::Unavailable).on(Op::UploadPart));
    assert!(bucket.upload_file("g", &file).await.is_err());
    assert_eq!(server.open_uploads(), 0, "what fails is aborted");
}

#[tokio::test]
async fn lasting_faults_are_said() {
    let (server, bucket) = kit::s3();
    server.put("k", "v");
    server.faults().add(Rule::always(Fault::Unavailable));
    let e = bucket.get("k").await.unwrap_err();
    assert!(
        e.to_string().contains("after 3 attempts") && e.to_string().contains("503"),
        "{e}"
    );
    server.faults().clear();
    server.faults().add(Rule::always(Fault::Hang));
    let e = bucket.head("k").await.unwrap_err();
    assert!(matches!(e, Error::Timeout { attempts: 3, .. }), "{e}");
    server.faults().clear();
    server.faults().add(Rule::always(Fault::Forbidden));
    let before = server.counters().all().requests;
    let e = bucket.get("k").await.unwrap_err();
    assert!(matches!(e, Error::Denied { .. }), "{e}");
    assert_eq!(
        server.counters().all().requests,
        before + 1,
        "a refusal is final"
    );
}

#[tokio::test]
async fn an_outage_is_not_multiplied() {
    let (server, _) = kit::s3();
    let config = Config::parse(&kit::s3_yaml(&server)).unwrap();
    let policy = bucket::RetryPolicy {
        budget: 10,
        ..kit::policy()
    };
    let registry = metrics::Registry::new();
    let bucket = bucket::open_with(&config, policy, &registry).unwrap();
    server.faults().add(Rule::always(Fault::Internal));
    for _ in 0..30 {
        assert!(bucket.get("k").await.is_err());
    }
    assert_eq!(
        server.counters().all().requests,
        30 + 10,
        "ten retries, then none"
    );

    let mut text = Vec::new();
    metrics::encode(&registry.gather(), metrics::Format::Text, &mut text);
    let text = String::from_utf8(text).unwrap();
    let line =
        r#"thanos_objstore_bucket_operation_failures_total{bucket="test",operation="get"} 30"#;
    assert!(text.contains(line), "{text}");
}
