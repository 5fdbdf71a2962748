//! Answers, byte by byte.

use api::{Options, ready};

use crate::fakes::{NOW, get, options, post, request, send};

#[tokio::test]
async fn golden() {
    for (path, body) in [
        (
            "/api/v1/query?query=42&time=1.5",
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.500,"42"]}}"#,
        ),
        (
            "/api/v1/query?query=\"x\"&time=1",
            r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#,
        ),
        (
            "/api/v1/query?query=up",
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1700000000,"1"]},{"metric":{"__name__":"up","job":"b"},"value":[1700000000,"0.5"]},{"metric":{"__name__":"up","job":"\"c\""},"value":[1700000000,"NaN"]}]}}"#,
        ),
        (
            "/api/v1/query?query=up&limit=1",
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1700000000,"1"]}]},"warnings":["results truncated due to limit"]}"#,
        ),
        (
            "/api/v1/query?query=up[1m]",
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1699999998.500,"-0"],[1700000000,"+Inf"]]}]}}"#,
        ),
        (
            "/api/v1/query_range?query=one&start=0&end=1&step=500ms",
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"i":"0"},"values":[[0,"0"],[0.500,"0.125"],[1,"0.25"]]}]}}"#,
        ),
        (
            "/api/v1/query_range?query=nothing&start=0&end=1&step=1",
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
        ),
        (
            "/api/v1/series?match[]=up&match[]={job=\"a\"}",
            r#"{"status":"success","data":[{"__name__":"down","http.code":"200","job":"a"},{"__name__":"up","job":"a"},{"__name__":"up","job":"b"}]}"#,
        ),
        (
            "/api/v1/series?match[]=up&limit=1",
            r#"{"status":"success","data":[{"__name__":"up","job":"a"}],"warnings":["results truncated due to limit"]}"#,
        ),
        (
            "/api/v1/series?match[]=up&end=1",
            r#"{"status":"success","data":[]}"#,
        ),
        (
            "/api/v1/labels",
            r#"{"status":"success","data":["__name__","http.code","job"]}"#,
        ),
        (
            "/api/v1/labels?match[]=up",
            r#"{"status":"success","data":["__name__","job"]}"#,
        ),
        (
            "/api/v1/label/job/values",
            r#"{"status":"success","data":["a","b"]}"#,
        ),
        (
            "/api/v1/label/job/values?match[]=down",
            r#"{"status":"success","data":["a"]}"#,
        ),
        (
            "/api/v1/label/job/values?match[]=down&match[]=up&limit=1",
            r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#,
        ),
        (
            "/api/v1/label/U__http_2e_code/values",
            r#"{"status":"success","data":["200"]}"#,
        ),
        (
            "/api/v1/label/absent/values",
            r#"{"status":"success","data":[]}"#,
        ),
        (
            "/api/v1/targets",
            r#"{"status":"success","data":{"activeTargets":[{"discoveredLabels":{"__address__":"a:80","job":"node"},"labels":{"instance":"a:80","job":"node"},"scrapePool":"node","scrapeUrl":"http://a:80/metrics","globalUrl":"http://a:80/metrics","lastError":"","lastScrape":"2023-11-14T22:13:18.766Z","lastScrapeDuration":0.25,"health":"up","scrapeInterval":"15s","scrapeTimeout":"10s"}],"droppedTargets":[{"discoveredLabels":{"__address__":"a:80","job":"node"},"scrapePool":"other"}],"droppedTargetCounts":{"node":0,"other":1}}}"#,
        ),
        (
            "/api/v1/targets?state=dropped&scrapePool=node",
            r#"{"status":"success","data":{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{"node":0,"other":1}}}"#,
        ),
        (
            "/api/v1/scrape_pools",
            r#"{"status":"success","data":{"scrapePools":["node","other"]}}"#,
        ),
        (
            "/api/v1/metadata?limit=1&limit_per_metric=1",
            r#"{"status":"success","data":{"requests_total":[{"type":"counter","help":"Requests.","unit":""}]}}"#,
        ),
        (
            "/api/v1/targets/metadata?match_target={job=\"node\"}&metric=temperature",
            r#"{"status":"success","data":[{"target":{"instance":"a:80","job":"node"},"type":"gauge","help":"Now.","unit":""}]}"#,
        ),
        (
            "/api/v1/rules",
            r#"{"status":"success","data":{"groups":[]}}"#,
        ),
        (
            "/api/v1/alerts",
            r#"{"status":"success","data":{"alerts":[]}}"#,
        ),
        (
            "/api/v1/alertmanagers",
            r#"{"status":"success","data":{"activeAlertmanagers":[],"droppedAlertmanagers":[]}}"#,
        ),
        (
            "/api/v1/status/config",
            r#"{"status":"success","data":{"yaml":"global: {}\n"}}"#,
        ),
        (
            "/api/v1/status/flags",
            r#"{"status":"success","data":{"web.listen-address":":9090"}}"#,
        ),
        (
            "/api/v1/status/tsdb?limit=1",
            r#"{"status":"success","data":{"headStats":{"numSeries":3,"numLabelPairs":4,"chunkCount":5,"minTime":1,"maxTime":2},"seriesCountByMetricName":[{"name":"a","value":3}],"labelValueCountByLabelName":[{"name":"a","value":3}],"memoryInBytesByLabelName":[{"name":"a","value":3}],"seriesCountByLabelValuePair":[{"name":"a","value":3}]}}"#,
        ),
        (
            "/api/v1/status/bucket",
            r#"{"status":"success","data":{"location":"filesystem ./data/bucket","blocks":[{"ulid":"01KC4D6GXQA4CRHYKV78NEBVAE","minTime":0,"maxTime":7200000,"stats":{"numSamples":2,"numSeries":1,"numChunks":3},"compaction":{"level":1},"resolution":0,"bytes":null,"labels":{"replica":"a"},"source":"sidecar"}],"partial":1,"lastSync":"2023-11-14T22:13:20Z","lastError":"","nextBlockDue":"2023-11-14T22:14:20Z"}}"#,
        ),
        (
            "/api/v1/format_query?query=sum(rate(up[5m]))by(job)",
            r#"{"status":"success","data":"sum by (job) (rate(up[5m]))"}"#,
        ),
    ] {
        let answer = get(path).await;
        assert_eq!(answer.body, body, "{path}");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn errors() {
    for (path, status, kind, text) in [
        (
            "query?query=",
            400,
            "bad_data",
            "invalid parameter \"query\": unknown position: parse error: no expression found in input",
        ),
        (
            "query?query=up[",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:4: parse error: ",
        ),
        (
            "query?query=up&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        (
            "query?query=up&limit=-1",
            400,
            "bad_data",
            "invalid parameter \"limit\": limit must be non-negative",
        ),
        (
            "query?query=up&limit=x",
            400,
            "bad_data",
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            "query?query=up&timeout=x",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        (
            "query?query=up&lookback_delta=x",
            400,
            "bad_data",
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        ("query?query=heavy", 422, "execution", "too heavy"),
        (
            "query?query=late",
            503,
            "timeout",
            "query timed out in expression evaluation",
        ),
        (
            "query?query=gone",
            499,
            "canceled",
            "query was canceled in expression evaluation",
        ),
        ("query?query=away", 503, "unavailable", "away"),
        ("query?query=broken", 500, "internal", "broken"),
        (
            "query_range?query=up&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        (
            "query_range?query=up&start=x&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            "query_range?query=up&start=2&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "query_range?query=\"x\"&start=0&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"query\": invalid expression type \"string\" for range query",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        (
            "series?match[]={}",
            400,
            "bad_data",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        (
            "series?match[]=up&start=x",
            400,
            "bad_data",
            "invalid parameter \"start\": invalid time value for 'start': ",
        ),
        (
            "series?match[]=up&x=%zz",
            400,
            "bad_data",
            "error parsing form values: invalid URL escape \"%zz\"",
        ),
        (
            "labels?match[]={",
            400,
            "bad_data",
            "1:2: parse error: unexpected end of input inside braces",
        ),
        (
            "metadata?limit=x",
            400,
            "bad_data",
            "limit must be a number",
        ),
        (
            "status/tsdb?limit=0",
            400,
            "bad_data",
            "limit must be a positive number",
        ),
        (
            "status/tsdb?limit=10001",
            400,
            "bad_data",
            "limit must not exceed 10000",
        ),
        (
            "rules?type=x",
            400,
            "bad_data",
            "invalid parameter \"type\": not supported value \"x\"",
        ),
    ] {
        let answer = get(&format!("/api/v1/{path}")).await;
        let json = answer.json();
        assert_eq!(
            (answer.status, json["errorType"].as_str()),
            (status, Some(kind)),
            "{path}"
        );
        let found = json["error"].as_str().unwrap_or_default();
        assert!(found.starts_with(text), "{path}: {found}");
        assert_eq!(json["status"], "error");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    // 11,000 steps are allowed, which makes 11,001 points.
    let answer = get("/api/v1/query_range?query=one&start=0&end=11000&step=1").await;
    assert_eq!(
        answer.json()["data"]["result"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        11_001
    );
}

#[tokio::test]
async fn forms_are_as_good_as_urls() {
    let answer = post("/api/v1/query?query=up", "query=42&time=1.5").await;
    assert_eq!(
        answer.json()["data"]["result"][0],
        1.5,
        "the form comes first"
    );
    let answer = post("/api/v1/series?match[]=down", "match[]=%7Bjob%3D%22b%22%7D").await;
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(post("/api/v1/label/job/values", "").await.status, 405);
    let large = format!("query=42&x={}", "y".repeat(11 << 20));
    assert_eq!(post("/api/v1/query", &large).await.status, 400);
}

#[tokio::test]
async fn warnings_infos_and_statistics() {
    let answer = get("/api/v1/query?query=noisy&stats=all").await;
    let json = answer.json();
    assert_eq!(json["warnings"].as_array().unwrap().len(), 11);
    assert_eq!(json["warnings"][10], "2 more warning annotations omitted");
    assert_eq!(json["infos"][0], "PromQL info: so it is (1:1)");
    assert!(json["data"]["stats"]["timings"]["evalTotalTime"].is_number());
    assert!(json["data"]["stats"]["samples"]["peakSamples"].is_number());
    assert_eq!(answer.headers["cache-control"], "no-store");
    let json = get("/api/v1/query?query=up&stats=maybe").await.json();
    assert!(
        json["warnings"][0]
            .as_str()
            .unwrap()
            .starts_with("value \"maybe\" for parameter")
    );
    assert!(json["data"]["stats"].is_object());
}

#[tokio::test]
async fn large_answers_come_in_pieces_and_whole() {
    let answer = get("/api/v1/query_range?query=wide&start=0&end=1000&step=1").await;
    assert!(!answer.headers.contains_key("content-length"));
    let json = answer.json();
    let series = json["data"]["result"].as_array().unwrap();
    assert_eq!(series.len(), 500);
    for (i, one) in series.iter().enumerate() {
        assert_eq!(one["metric"]["i"], i.to_string());
        let values = one["values"].as_array().unwrap();
        assert_eq!(values.len(), 1001);
        for (s, value) in values.iter().enumerate() {
            assert_eq!(value[0], s);
            assert_eq!(value[1], (s as f64 / 8.0 + i as f64).to_string());
        }
    }
}

#[tokio::test]
async fn nothing_but_health_before_it_is_ready() {
    let starting = options();
    starting.ready.set(ready::State::Starting);
    for (path, status) in [
        ("/api/v1/query?query=1", 503),
        ("/api/v1/labels", 503),
        ("/-/ready", 503),
        ("/-/healthy", 200),
        ("/metrics", 200),
        ("/api/v1/status/runtimeinfo", 200),
        ("/api/v1/status/flags", 200),
    ] {
        let answer = send(starting.clone(), request("GET", path)).await;
        assert_eq!(answer.status, status, "{path}");
        if status == 503 {
            assert_eq!(answer.headers["x-prometheus-stopping"], "false");
        }
    }
    let answer = send(starting.clone(), request("GET", "/api/v1/query?query=1")).await;
    assert_eq!(answer.json()["errorType"], "unavailable");
    starting.ready.set(ready::State::Stopping);
    let answer = send(starting, request("GET", "/-/ready")).await;
    assert_eq!(answer.headers["x-prometheus-stopping"], "true");
    assert_eq!(get("/-/ready").await.status, 200);
}

#[tokio::test]
async fn what_is_absent_is_not_served() {
    let bare = Options {
        ready: options().ready,
        ..Options::default()
    };
    for path in [
        "query?query=1",
        "series?match[]=up",
        "labels",
        "targets",
        "metadata",
        "status/config",
        "status/tsdb",
        "status/bucket",
        "status/runtimeinfo",
    ] {
        let answer = send(bare.clone(), request("GET", &format!("/api/v1/{path}"))).await;
        assert_eq!(
            (answer.status, answer.json()["errorType"].as_str()),
            (404, Some("not_found")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn origins_and_methods() {
    let mut asked = request("OPTIONS", "/api/v1/anything");
    asked
        .headers_mut()
        .insert("origin", "http://a.b".parse().unwrap());
    let answer = send(options(), asked).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let answer = send(options(), request("DELETE", "/api/v1/query")).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (405, "Method Not Allowed\n")
    );
    let answer = get("/api/v1/nowhere").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "404 page not found\n")
    );
}

#[tokio::test]
async fn a_tree_as_json() {
    let query = "sum by (job) (rate(up{job=~\"a.*\"}[5m] offset 1m)) > bool on(job) group_left(x) -(vector(1))";
    let answer = get(&format!(
        "/api/v1/parse_query?query={}",
        query.replace('+', "%2B")
    ))
    .await;
    let json = answer.json();
    let tree = &json["data"];
    assert_eq!(tree["type"], "binaryExpr");
    assert_eq!((&tree["op"], &tree["bool"]), (&">".into(), &true.into()));
    assert_eq!(tree["matching"]["card"], "many-to-one");
    assert_eq!(tree["matching"]["include"][0], "x");
    let rate = &tree["lhs"]["expr"];
    assert_eq!(rate["func"]["argTypes"][0], "matrix");
    let selector = &rate["args"][0];
    assert_eq!(selector["type"], "matrixSelector");
    assert_eq!(
        (&selector["range"], &selector["offset"]),
        (&300_000.into(), &60_000.into())
    );
    assert_eq!(selector["matchers"][0]["type"], "=~");
    assert_eq!(tree["rhs"]["type"], "unaryExpr");
    // As deep as the parser allows: nested, and in a row.
    let deep = format!("query={}1{}", "(".repeat(250), ")".repeat(250));
    let long = format!("query=1{}", "%2B1".repeat(500));
    for path in ["/api/v1/parse_query", "/api/v1/format_query"] {
        for form in [&deep, &long] {
            let answer = post(path, form).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    }
    let runtime = get("/api/v1/status/runtimeinfo").await.json();
    assert_eq!(runtime["data"]["serverTime"], "2023-11-14T22:13:20Z");
    assert_eq!(NOW, 1_700_000_000_000);
}
