//! Changing what is stored.

use api::Options;

use crate::fakes::{get, options, post, request, send};

const DELETE: &str = "/api/v1/admin/tsdb/delete_series";
const SNAPSHOT: &str = "/api/v1/admin/tsdb/snapshot";
const CLEAN: &str = "/api/v1/admin/tsdb/clean_tombstones";

#[tokio::test]
async fn deleting() {
    for query in [
        "?match[]=up",
        "?match[]=up&match[]={job=~\"a.*\"}&start=5&end=6",
    ] {
        let answer = send(options(), request("PUT", &format!("{DELETE}{query}"))).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{query}");
    }
    assert_eq!(post(DELETE, "match[]=up&start=1").await.status, 204);
    for (form, status, error) in [
        ("", 400, "no match[] parameter provided"),
        ("match[]=up&start=x", 400, "invalid parameter \\\"start\\\""),
        (
            "match[]=up&match[]=bad{",
            400,
            "invalid parameter \\\"match[]\\\"",
        ),
        (
            "match[]=bad",
            500,
            "\"errorType\":\"internal\",\"error\":\"no\"",
        ),
    ] {
        let answer = post(DELETE, form).await;
        assert_eq!(answer.status, status, "{form}: {}", answer.body);
        assert!(answer.body.contains(error), "{form}: {}", answer.body);
    }
    assert_eq!(get(DELETE).await.status, 405);
}

#[tokio::test]
async fn snapshots_and_cleaning() {
    for (form, name) in [
        ("", "skip=false"),
        ("skip_head=1", "skip=true"),
        ("skip_head=F", "skip=false"),
    ] {
        let answer = post(SNAPSHOT, form).await;
        let want = format!(r#"{{"status":"success","data":{{"name":"{name}"}}}}"#);
        assert_eq!((answer.status, answer.body), (200, want));
    }
    let answer = post(SNAPSHOT, "skip_head=maybe").await;
    assert_eq!(
        answer.body,
        r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"maybe\": invalid syntax"}"#
    );
    assert_eq!(post(CLEAN, "").await.status, 204);
}

#[tokio::test]
async fn it_is_off_by_default() {
    for path in [DELETE, SNAPSHOT, CLEAN] {
        let options = Options {
            admin: None,
            ..options()
        };
        let answer = send(options, request("POST", path)).await;
        assert_eq!(answer.status, 500);
        assert_eq!(
            answer.body,
            r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#
        );
    }
}

#[tokio::test]
async fn absent_blocks_are_named() {
    let answer = get("/api/v1/status/tsdb/blocks").await.json();
    assert_eq!(answer["data"]["quarantined"][0]["reason"], "why");
    assert_eq!(
        answer["data"]["deletedUnshipped"][0],
        serde_json::json!({
            "ulid": "01KC4D6GXQA4CRHYKV78NEBVAG", "minTime": 1, "maxTime": 2,
            "deletedAt": "2023-11-14T22:13:20Z"
        })
    );
}
