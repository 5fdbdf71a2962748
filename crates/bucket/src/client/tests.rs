use super::*;

#[tokio::test]
async fn ends_of_objects_are_read_where_nothing_but_ranges_from_the_start_is_known() {
    let bucket = Arc::into_inner(Bucket::in_memory()).unwrap();
    let bucket = Bucket {
        suffixes: false,
        ..bucket
    };
    for (text, end) in [("a longer text", "text"), ("one", "one"), ("", "")] {
        bucket
            .put("key", text.into(), Put::Overwrite)
            .await
            .unwrap();
        let (bytes, size) = bucket.get_suffix("key", 4).await.unwrap();
        assert_eq!((&bytes[..], size), (end.as_bytes(), text.len() as u64));
    }
    assert!(
        bucket
            .get_suffix("none", 4)
            .await
            .unwrap_err()
            .is_not_found()
    );
}
