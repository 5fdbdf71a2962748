//! The page: where it stands, what it may load.

use crate::fakes::{get, options, request, send};

fn browser(path: &str) -> http::Request<axum::body::Body> {
    let mut asked = request("GET", path);
    let accept = "text/html,application/xhtml+xml,*/*;q=0.8".parse().unwrap();
    asked.headers_mut().insert("accept", accept);
    asked
}

#[tokio::test]
async fn old_links_lead_to_the_page() {
    for (path, to) in [
        ("/", "/query"),
        ("/graph", "/query"),
        ("/global", "/blocks"),
        (
            "/graph?g0.expr=up%7Bx%3D%22y%22%7D&g0.tab=0",
            "/query?g0.expr=up%7Bx%3D%22y%22%7D&g0.tab=0",
        ),
    ] {
        let answer = get(path).await;
        assert_eq!(
            (answer.status, answer.headers["location"].to_str().unwrap()),
            (302, to)
        );
    }
    let moved = api::Options {
        external_path: "/prom".to_owned(),
        ..options()
    };
    let answer = send(moved.clone(), request("GET", "/graph?a=b")).await;
    assert_eq!(answer.headers["location"], "/prom/query?a=b");
    let answer = send(moved, browser("/query")).await;
    assert!(
        answer.body.contains("<base href=\"/prom/\" />"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    for path in [
        "/query",
        "/alerts",
        "/targets",
        "/stores",
        "/blocks",
        "/tsdb-status",
        "/status",
        "/status/flags",
    ] {
        let answer = send(options(), browser(path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        let nonce = policy
            .split("'nonce-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        assert_eq!(nonce.len(), 32);
        assert!(
            answer.body.contains(&format!("\"{nonce}\"")),
            "{}",
            answer.body
        );
        assert!(!answer.body.contains("NONCE"));
        assert!(!answer.body.contains("//cdn") && !answer.body.contains("src=\"http"));
    }
    let answer = send(options(), browser("/nowhere")).await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("<html"));
    let answer = get("/nowhere").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "404 page not found\n")
    );
    assert_eq!(get("/assets/none.js").await.status, 404);
    assert_eq!(get("/assets/../index.html").await.status, 404);
}

#[tokio::test]
async fn a_proxy_may_say_where_it_put_us() {
    let behind = |external_path: &str| api::Options {
        prefix_header: "x-forwarded-prefix".to_owned(),
        external_path: external_path.to_owned(),
        ..options()
    };
    for (said, base) in [
        ("/team/metrics/", "/team/metrics/"),
        ("metrics", "/metrics/"),
        ("https://evil.example/metrics?x=y", "/metrics/"),
        ("//evil.example", "/evil.example/"),
        ("\"><script>", "/&quot;&gt;&lt;script&gt;/"),
        ("", "/"),
    ] {
        let mut asked = browser("/query");
        asked
            .headers_mut()
            .insert("x-forwarded-prefix", said.parse().unwrap());
        let answer = send(behind(""), asked).await;
        let wanted = format!("<base href=\"{base}\" />");
        assert!(answer.body.contains(&wanted), "{said}: {}", answer.body);
    }
    let mut asked = request("GET", "/graph?a=b");
    asked
        .headers_mut()
        .insert("x-forwarded-prefix", "/here".parse().unwrap());
    let answer = send(behind(""), asked).await;
    assert_eq!(answer.headers["location"], "/here/query?a=b");
    // What the flag says wins.
    let mut asked = browser("/query");
    asked
        .headers_mut()
        .insert("x-forwarded-prefix", "/here".parse().unwrap());
    let answer = send(behind("/flag"), asked).await;
    assert!(answer.body.contains("<base href=\"/flag/\" />"));
}

#[tokio::test]
async fn pages_are_those_that_have_something_to_show() {
    let pages = |body: &str| -> Vec<String> {
        let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
        let pages = parsed["data"]["pages"].as_array().unwrap();
        pages
            .iter()
            .map(|p| p.as_str().unwrap().to_owned())
            .collect()
    };
    let runtime: Option<std::sync::Arc<dyn Fn() -> api::RuntimeInfo + Send + Sync>> =
        Some(std::sync::Arc::new(api::RuntimeInfo::default));
    let bare = api::Options {
        runtime: runtime.clone(),
        ..api::Options::default()
    };
    let more = api::Options {
        more_pages: vec!["blocks", "nonsense"],
        ..bare.clone()
    };
    let asked = request("GET", "/api/v1/status/runtimeinfo");
    let answer = send(more, asked).await;
    assert_eq!(pages(&answer.body), ["blocks", "status", "flags"]);
    let asked = request("GET", "/api/v1/status/runtimeinfo");
    let answer = send(bare.clone(), asked).await;
    assert_eq!(pages(&answer.body), ["status", "flags"]);
    // The root leads to the first of them.
    let answer = send(bare, request("GET", "/")).await;
    assert_eq!(answer.headers["location"], "/status");
    let full = api::Options {
        runtime,
        ..options()
    };
    let asked = request("GET", "/api/v1/status/runtimeinfo");
    let all = pages(&send(full.clone(), asked).await.body);
    for name in ["query", "targets", "tsdb-status", "config"] {
        assert!(all.iter().any(|p| p == name), "{name} in {all:?}");
    }
    assert!(!all.iter().any(|p| p == "stores"), "{all:?}");
    let answer = send(full, browser("/query")).await;
    if answer.body.contains("name=\"pages\"") {
        let wanted = format!("content=\"{}\"", all.join(" "));
        assert!(answer.body.contains(&wanted), "{}", answer.body);
    }
}

#[tokio::test]
async fn titles_and_paths_are_escaped() {
    let odd = api::Options {
        external_path: "/a\"><script>".to_owned(),
        title: "<b>&".to_owned(),
        ..options()
    };
    let answer = send(odd, browser("/query")).await;
    assert!(answer.body.contains("<title>&lt;b&gt;&amp;</title>"));
    assert!(!answer.body.contains("\"><script>"));
}

#[tokio::test]
async fn assets_are_kept_and_compressed() {
    // The name of an asset has a hash in it; the page says what it is.
    let page = send(options(), browser("/query")).await.body;
    let Some(at) = page.find("assets/") else {
        println!("SKIPPED: this build carries no user interface (ui/dist is empty)");
        return;
    };
    let path = format!("/{}", page[at..].split('"').next().unwrap());
    let mut asked = request("GET", &path);
    asked
        .headers_mut()
        .insert("accept-encoding", "br, gzip".parse().unwrap());
    let zipped = send(options(), asked).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    assert!(
        zipped.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    let plain = get(&path).await;
    assert!(!plain.headers.contains_key("content-encoding"));
    assert!(plain.body.len() > zipped.body.len());
    let mut again = request("GET", &path);
    again
        .headers_mut()
        .insert("if-none-match", plain.headers["etag"].clone());
    let unchanged = send(options(), again).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}
