//! The server as `object_store`'s S3 client sees it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, CopyMode, CopyOptions, Error, GetOptions, GetRange, MultipartUpload,
    ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
};
use s3kit::{Config, Fault, Op, Rule, Server};

/// A builder that may build a client: rustls asks for a provider even where no TLS is spoken.
fn builder() -> AmazonS3Builder {
    // The second to come finds it done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    AmazonS3Builder::new()
}

fn client(server: &Server, secret: &str, retries: usize) -> AmazonS3 {
    builder()
        .with_endpoint(server.endpoint())
        .with_bucket_name(server.bucket())
        .with_region("us-east-1")
        .with_access_key_id(server.keys().0)
        .with_secret_access_key(secret)
        .with_client_options(
            ClientOptions::new()
                .with_allow_http(true)
                .with_timeout(Duration::from_secs(5)),
        )
        .with_retry(RetryConfig {
            max_retries: retries,
            ..RetryConfig::default()
        })
        .build()
        .unwrap()
}

fn pair() -> (Server, AmazonS3) {
    let server = Server::start(Config::default()).unwrap();
    let store = client(&server, "test-secret", 0);
    (server, store)
}

async fn keys(store: &AmazonS3, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(Path::from);
    let mut list = store.list(prefix.as_ref());
    let mut keys = Vec::new();
    while let Some(meta) = list.try_next().await.unwrap() {
        keys.push(meta.location.to_string());
    }
    keys
}

#[tokio::test]
async fn objects_come_back_whole_and_in_part() {
    let (server, store) = pair();
    let path = Path::from("a/odd key+%/ü");
    let put = store
        .put(&path, PutPayload::from_static(b"0123456789"))
        .await
        .unwrap();
    let got = store.get(&path).await.unwrap();
    assert_eq!(got.meta.e_tag, put.e_tag);
    assert_eq!(got.bytes().await.unwrap(), "0123456789");
    assert_eq!(store.head(&path).await.unwrap().size, 10);
    assert_eq!(store.get_range(&path, 2..5).await.unwrap(), "234");
    assert_eq!(store.get_range(&path, 8..50).await.unwrap(), "89");
    let options = |range| GetOptions {
        range: Some(range),
        ..GetOptions::default()
    };
    let suffix = store
        .get_opts(&path, options(GetRange::Suffix(3)))
        .await
        .unwrap();
    assert_eq!(suffix.meta.size, 10, "a ranged answer tells the whole size");
    assert_eq!(suffix.bytes().await.unwrap(), "789");
    let offset = store
        .get_opts(&path, options(GetRange::Offset(7)))
        .await
        .unwrap();
    assert_eq!(offset.bytes().await.unwrap(), "789");
    assert!(
        store
            .get_opts(&path, options(GetRange::Bounded(20..30)))
            .await
            .is_err()
    );
    assert_eq!(server.counters().requests(Op::Get, "a/odd key+%"), 6);
    assert!(matches!(
        store.get(&Path::from("none")).await.unwrap_err(),
        Error::NotFound { .. }
    ));
    assert_eq!(server.counters().of(Op::Put).bytes_in, 10);

    let conditional = GetOptions {
        if_none_match: put.e_tag.clone(),
        ..GetOptions::default()
    };
    let same = store.get_opts(&path, conditional).await.unwrap_err();
    assert!(matches!(same, Error::NotModified { .. }), "{same}");
    let conditional = GetOptions {
        if_match: Some("other".into()),
        ..GetOptions::default()
    };
    let other = store.get_opts(&path, conditional).await.unwrap_err();
    assert!(matches!(other, Error::Precondition { .. }), "{other}");
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let server = Server::start(Config::default()).unwrap();
    let unsigned = builder()
        .with_endpoint(server.endpoint())
        .with_bucket_name("test")
        .with_region("us-east-1")
        .with_skip_signature(true)
        .with_allow_http(true)
        .build()
        .unwrap();
    for store in [client(&server, "wrong", 0), unsigned] {
        let path = Path::from("k");
        let e = store
            .put(&path, PutPayload::from_static(b"x"))
            .await
            .unwrap_err();
        assert!(matches!(e, Error::PermissionDenied { .. }), "{e:?}");
        assert!(store.get(&path).await.is_err());
    }
    assert!(server.keys_under("").is_empty());
    assert!(server.counters().log().iter().all(|r| r.status == 403));
}

#[tokio::test]
async fn creating_if_absent_has_one_winner() {
    let (_server, store) = pair();
    let store = Arc::new(store);
    for round in 0..20 {
        let path = Path::from(format!("lease-{round}"));
        let racers = (0..16).map(|i| {
            let (store, path) = (Arc::clone(&store), path.clone());
            tokio::spawn(async move {
                let body = PutPayload::from(format!("racer {i}"));
                store.put_opts(&path, body, PutMode::Create.into()).await
            })
        });
        let results = futures_util::future::join_all(racers).await;
        let mut won = 0;
        for result in results {
            match result.unwrap() {
                Ok(_) => won += 1,
                Err(Error::AlreadyExists { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn compare_and_swap() {
    let (server, store) = pair();
    let path = Path::from("counter");
    let first = store
        .put(&path, PutPayload::from_static(b"1"))
        .await
        .unwrap();
    let update = |version: &object_store::PutResult| PutOptions {
        mode: PutMode::Update(UpdateVersion {
            e_tag: version.e_tag.clone(),
            version: None,
        }),
        ..PutOptions::default()
    };
    let body = PutPayload::from_static(b"2");
    let second = store
        .put_opts(&path, body.clone(), update(&first))
        .await
        .unwrap();
    let stale = store
        .put_opts(&path, body.clone(), update(&first))
        .await
        .unwrap_err();
    assert!(matches!(stale, Error::Precondition { .. }), "{stale}");
    store
        .put_opts(&path, PutPayload::from_static(b"3"), update(&second))
        .await
        .unwrap();
    assert_eq!(server.get("counter").unwrap(), "3");
    server.remove("counter");
    assert!(store.put_opts(&path, body, update(&second)).await.is_err());
}

#[tokio::test]
async fn lists_page_and_fold() {
    let (server, store) = pair();
    for i in 0..1100 {
        server.put(&format!("many/{i:04}"), "x");
    }
    server.put("other/a/1", "1");
    server.put("other/a/2", "2");
    server.put("other/b", "3");
    let many = keys(&store, Some("many")).await;
    assert_eq!(many.len(), 1100);
    assert!(many.is_sorted());
    assert_eq!(
        server.counters().requests(Op::List, "many/"),
        2,
        "two pages"
    );
    let from = Path::from("many/1000");
    let rest: Vec<_> = store
        .list_with_offset(Some(&Path::from("many")), &from)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rest.len(), 99);
    let fold = store
        .list_with_delimiter(Some(&Path::from("other")))
        .await
        .unwrap();
    assert_eq!(fold.common_prefixes, [Path::from("other/a")]);
    assert_eq!(fold.objects.len(), 1);
    let top = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(top.common_prefixes.len(), 2);

    let all = futures_util::stream::iter(many.into_iter().map(|k| Ok(Path::from(k)))).boxed();
    let gone: Vec<_> = store.delete_stream(all).try_collect().await.unwrap();
    assert_eq!(gone.len(), 1100);
    assert_eq!(server.keys_under("").len(), 3);
    store.delete(&Path::from("other/b")).await.unwrap();
    assert_eq!(server.keys_under("other/b").len(), 0);
}

#[tokio::test]
async fn multipart_and_copy() {
    let (server, store) = pair();
    let path = Path::from("big");
    let mut upload = store.put_multipart(&path).await.unwrap();
    for i in 0..3u8 {
        let part = Bytes::from(vec![i; 5 << 20]);
        upload.put_part(part.into()).await.unwrap();
    }
    assert!(server.get("big").is_none(), "nothing half-written is seen");
    upload.complete().await.unwrap();
    assert_eq!(server.get("big").unwrap().len(), 15 << 20);
    let mut upload = store.put_multipart(&Path::from("never")).await.unwrap();
    upload
        .put_part(Bytes::from_static(b"x").into())
        .await
        .unwrap();
    assert_eq!(server.open_uploads(), 1);
    upload.abort().await.unwrap();
    assert_eq!(server.open_uploads(), 0);
    assert!(server.get("never").is_none());

    let copy = Path::from("copy");
    store.copy(&path, &copy).await.unwrap();
    assert_eq!(server.get("copy"), server.get("big"));
    let (gone, options) = (Path::from("gone"), CopyOptions::new());
    let missing = store.copy_opts(&gone, &copy, options.with_mode(CopyMode::Overwrite));
    assert!(missing.await.is_err());
}

#[tokio::test]
async fn faults_strike_as_planned() {
    let (server, store) = pair();
    server.put("k", vec![7u8; 100_000]);
    let path = Path::from("k");
    let faults = server.faults();
    for fault in [
        Fault::Unavailable,
        Fault::Internal,
        Fault::Forbidden,
        Fault::Reset,
        Fault::LostAnswer,
        Fault::Truncate(1000),
    ] {
        faults.add(Rule::once(fault).on(Op::Get));
        let failed = match store.get(&path).await {
            Ok(body) => body.bytes().await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{fault:?}");
    }
    assert_eq!(faults.struck(), 6);
    assert_eq!(
        store.get(&path).await.unwrap().bytes().await.unwrap().len(),
        100_000
    );

    faults.add(Rule::once(Fault::LostAnswer).on(Op::Put));
    let lost = store
        .put(&Path::from("lost"), PutPayload::from_static(b"x"))
        .await;
    assert!(lost.is_err());
    assert!(server.get("lost").is_some(), "done, but not said");

    faults.add(Rule::once(Fault::Hang));
    let hung = tokio::time::timeout(Duration::from_millis(100), store.get(&path)).await;
    assert!(hung.is_err());

    faults.add(Rule::once(Fault::Trickle(20_000)));
    let start = Instant::now();
    assert_eq!(
        store.get(&path).await.unwrap().bytes().await.unwrap().len(),
        100_000
    );
    assert!(start.elapsed() >= Duration::from_millis(40));

    faults.add(Rule::always(Fault::Unavailable).times(2));
    let patient = client(&server, "test-secret", 3);
    assert!(patient.get(&path).await.is_ok());
}

#[tokio::test]
async fn latency_shows_what_waits_for_what() {
    let (server, store) = pair();
    server.put("k", "0123456789");
    server.set_latency(Duration::from_millis(30));
    let path = Path::from("k");
    let together = (0..4).map(|i| store.get_range(&path, i..i + 1));
    futures_util::future::join_all(together).await;
    assert_eq!(server.counters().all().requests, 4);
    assert_eq!(server.counters().rounds(), 1);
    store.get_range(&path, 1..2).await.unwrap();
    assert_eq!(server.counters().rounds(), 2);
    assert_eq!(server.counters().all().bytes_out, 5);
    server.counters().reset();
    assert_eq!(server.counters().rounds(), 0);
}
