use bucket::Config;
use bucket::config::{Provider, Sse};

fn parse(yaml: &str) -> Result<Config, String> {
    Config::parse(yaml).map_err(|e| e.to_string())
}

#[test]
fn every_s3_key_is_known() {
    let config = parse(
        "type: s3
config:
  bucket: metrics
  endpoint: s3.eu-west-1.amazonaws.com:443
  region: ''
  disable_dualstack: false
  aws_sdk_auth: false
  access_key: '123'
  secret_key: 456
  session_token: ''
  insecure: false
  signature_version2: false
  put_user_metadata: {a: b}
  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 2m
    insecure_skip_verify: false
    tls_handshake_timeout: 10s
    expect_continue_timeout: 1s
    max_idle_conns: 100
    max_idle_conns_per_host: 100
    max_conns_per_host: 0
    tls_config:
      ca_file: ''
      cert_file: ''
      key_file: ''
      server_name: ''
      insecure_skip_verify: false
    disable_compression: false
  trace:
    enable: false
  list_objects_version: ''
  bucket_lookup_type: auto
  send_content_md5: true
  disable_multipart: false
  part_size: 67108864
  sse_config:
    type: SSE-KMS
    kms_key_id: key
    kms_encryption_context: {}
    encryption_key: ''
  sts_endpoint: ''
  max_retries: 0
prefix: /a/b/
hedging_config: {enabled: false, up_to: 3, quantile: 0.9}
",
    )
    .unwrap();
    assert_eq!(config.prefix, "a/b");
    assert_eq!(config.name(), "metrics");
    let Provider::S3(s3) = &config.provider else {
        panic!("{config:?}");
    };
    assert_eq!(s3.region, "eu-west-1");
    assert!(s3.virtual_hosted());
    assert_eq!(
        s3.sse,
        Some(Sse::Kms {
            key_id: "key".into()
        })
    );
    assert_eq!(s3.secret_key.0, "456");
    assert_eq!(config.warnings, ["send_content_md5 is not honoured"]);
    let printed = format!("{config:?}");
    assert!(
        !printed.contains("456"),
        "secrets are not printed: {printed}"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let s3 = |more: &str| {
        format!(
            "type: S3\nconfig:\n  bucket: b\n  endpoint: e\n  access_key: a\n  secret_key: b\n{more}"
        )
    };
    for (yaml, says) in [
        (s3("  bukcet: x\n"), "bukcet"),
        (s3("  signature_version2: true\n"), "signature_version2"),
        (s3("  list_objects_version: v1\n"), "list_objects_version"),
        (s3("  part_size: 1000\n"), "part_size"),
        (s3("  bucket_lookup_type: dns\n"), "dns"),
        (s3("  sse_config: {type: SSE-X}\n"), "SSE-X"),
        (
            s3("  http_config: {tls_config: {cert_file: x}}\n"),
            "cert_file",
        ),
        (
            s3("  http_config: {idle_conn_timeout: 3 parsecs}\n"),
            "duration",
        ),
        ("type: S3\nconfig: {bucket: b}".into(), "endpoint"),
        (
            "type: S3\nconfig: {bucket: b, endpoint: 'http://x'}".into(),
            "scheme",
        ),
        (
            "type: S3\nconfig: {bucket: b, endpoint: x, access_key: x}".into(),
            "together",
        ),
        (
            "type: SWIFT\nconfig: {auth_url: x}".into(),
            "not supported: objstore type \"SWIFT\"",
        ),
        ("type: OCI\nconfig: {}".into(), "S3 compatibility"),
        ("type: FLOPPY".into(), "FLOPPY"),
        ("type: FILESYSTEM".into(), "directory"),
        ("config: {}".into(), "type"),
        (
            "type: FILESYSTEM\nconfig: {directory: x}\nprefix: a/../b".into(),
            "prefix",
        ),
        ("type: GCS\nconfig: {}".into(), "bucket"),
        (
            "type: AZURE\nconfig: {storage_account: a}".into(),
            "container",
        ),
        ("[".into(), "objstore configuration"),
    ] {
        let e = parse(&yaml).unwrap_err();
        assert!(e.contains(says), "{yaml}\n{e}");
    }
}

#[test]
fn unknown_keys_come_with_their_line() {
    let e = parse("type: FILESYSTEM\nconfig:\n  directory: x\n  size: 3\n").unwrap_err();
    assert!(e.contains("size") && e.contains('4'), "{e}");
}

#[test]
fn defaults_of_s3() {
    let config = parse("type: S3\nconfig: {bucket: b.c, endpoint: s3.amazonaws.com}").unwrap();
    let Provider::S3(s3) = &config.provider else {
        panic!("{config:?}");
    };
    assert_eq!(s3.region, "us-east-1");
    assert!(
        !s3.virtual_hosted(),
        "a dot in the name breaks certificates"
    );
    assert!(config.warnings[0].contains("environment"));
}

#[test]
fn other_providers_can_be_opened() {
    let registry = metrics::Registry::new();
    for yaml in [
        "type: AZURE\nconfig: {storage_account: a, storage_account_key: a2V5, container: c}",
        "type: S3\nconfig: {bucket: b, endpoint: s3.amazonaws.com, access_key: a, secret_key: b}",
    ] {
        let config = parse(yaml).unwrap();
        bucket::open(&config, &registry).unwrap();
    }
}
