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
    for path in ["/query", "/targets", "/status", "/status/flags", "/bucket"] {
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
