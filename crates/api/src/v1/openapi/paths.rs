//! The endpoints, one by one. A test holds them against the routes.

use serde_json::{Value, json};

use super::schemas::schema;

/// The groups of endpoints: name, what people read, and what is in them.
pub(super) const TAGS: &[(&str, &str, &str)] = &[
    ("query", "Query", "Evaluates and examines PromQL."),
    (
        "metadata",
        "Metadata",
        "Types, units and help texts of metrics, and the search for names.",
    ),
    ("labels", "Labels", "Names and values of labels."),
    ("series", "Series", "Which series there are."),
    ("targets", "Targets", "What is scraped."),
    ("rules", "Rules", "What is evaluated again and again."),
    ("alerts", "Alerts", "What fires, and who is told."),
    (
        "status",
        "Status",
        "How the process is doing, and what it was told to do.",
    ),
    (
        "admin",
        "Admin",
        "Changes what is stored (`--web.enable-admin-api`).",
    ),
    (
        "features",
        "Features",
        "What is there, and what is switched on.",
    ),
    (
        "remote",
        "Remote storage",
        "Samples from and for other servers.",
    ),
    ("otlp", "OTLP", "Metrics from OpenTelemetry."),
    (
        "notifications",
        "Notifications",
        "What the people in charge should know.",
    ),
    (
        "stores",
        "Stores",
        "Where a querier asks, and what is in the bucket.",
    ),
];

/// How an endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    /// As a path item spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
        }
    }
}

/// What an endpoint answers.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    /// JSON with this as `data`; with `""` without.
    Data(&'static str),
    /// JSON, an object a line.
    Lines,
    /// A stream of events, each one of these.
    Events(&'static str),
    /// A body of this type.
    Raw(&'static str),
    /// No body.
    Nothing,
}

/// One endpoint.
pub(super) struct Endpoint {
    pub(super) path: &'static str,
    pub(super) methods: &'static [Method],
    pub(super) tag: &'static str,
    /// The name of the operation that GET is, or of the only one.
    id: &'static str,
    /// With what names of its schemas begin.
    pub(super) schemas: &'static str,
    pub(super) summary: &'static str,
    params: &'static [&'static [Param]],
    pub(super) gives: Gives,
}

impl Endpoint {
    /// The name of the operation that `method` is.
    pub(super) fn id(&self, method: Method) -> String {
        let id = self.id;
        match (method, self.methods.len()) {
            (Method::Post, 2) if self.is_form() => format!("{id}-post"),
            (Method::Post, 2) => format!("{id}Post"),
            (Method::Put, _) => format!("{id}Put"),
            _ => id.to_owned(),
        }
    }

    /// Whether POST takes in a form what GET takes in the URL.
    pub(super) fn is_form(&self) -> bool {
        self.methods == BOTH
    }

    /// What it takes.
    pub(super) fn params(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().copied().flatten()
    }
}

/// A parameter.
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) required: bool,
    kind: Kind,
    about: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A part of the path.
    Path,
    /// RFC 3339 or seconds.
    Time,
    /// A duration or seconds.
    Span,
    /// A type of the schemas' notation.
    Of(&'static str),
}

impl Param {
    /// In a URL.
    pub(super) fn describe(&self) -> Value {
        let place = match self.kind {
            Kind::Path => "path",
            _ => "query",
        };
        let schema = match self.kind {
            Kind::Time => json!({"oneOf": [
                {"type": "string", "format": "date-time"},
                {"type": "number", "format": "unixtime"},
            ]}),
            Kind::Span => json!({"oneOf": [
                {"type": "string", "format": "duration"},
                {"type": "number", "format": "float"},
            ]}),
            Kind::Path => schema("string"),
            Kind::Of(text) => schema(text),
        };
        let mut param = json!({
            "name": self.name,
            "in": place,
            "required": self.required,
            "description": self.about,
            "schema": schema,
        });
        if self.name.ends_with("[]") {
            param["explode"] = true.into();
        }
        param
    }

    /// In a form.
    pub(super) fn field(&self) -> Value {
        let mut field = match self.kind {
            Kind::Of(text) => schema(text),
            _ => schema("string"),
        };
        field["description"] = self.about.into();
        field
    }
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param {
        name,
        required: false,
        kind,
        about,
    }
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param {
        name,
        required: true,
        kind,
        about,
    }
}

const BOTH: &[Method] = &[Method::Get, Method::Post];
const GET: &[Method] = &[Method::Get];
const POST: &[Method] = &[Method::Post];
const POST_PUT: &[Method] = &[Method::Post, Method::Put];

const LIMIT: Param = may(
    "limit",
    Kind::Of("int64"),
    "Give this many at most; 0: all.",
);
const QUERY: Param = must("query", Kind::Of("string"), "The expression.");
const MATCH: Param = may(
    "match[]",
    Kind::Of("[string]"),
    "Only of series that one of these selectors selects.",
);
const START: Param = may(
    "start",
    Kind::Time,
    "The beginning of the time that is looked at.",
);
const END: Param = may("end", Kind::Time, "The end of it.");
const TIMED: &[Param] = &[START, END];
const EVALUATED: &[Param] = &[
    LIMIT,
    may(
        "timeout",
        Kind::Span,
        "How long it may take; `--query.timeout` at most.",
    ),
    may(
        "lookback_delta",
        Kind::Span,
        "How far back an instant selector looks.",
    ),
    may(
        "stats",
        Kind::Of("string"),
        "With statistics; `all`: of each step, too.",
    ),
];
const RANGED: &[Param] = &[
    must("start", Kind::Time, "The first step."),
    must("end", Kind::Time, "When the last step is, at most."),
    must("step", Kind::Span, "From a step to the next."),
];
const SEARCHED: &[Param] = &[
    MATCH,
    may(
        "search[]",
        Kind::Of("[string]"),
        "What names should be like.",
    ),
    may("fuzz_threshold", Kind::Of("int64"), "How like, of 100."),
    may(
        "fuzz_alg",
        Kind::Of("'subsequence'|'jarowinkler'"),
        "How likeness is measured.",
    ),
    may(
        "case_sensitive",
        Kind::Of("boolean"),
        "Whether case counts.",
    ),
    may("sort_by", Kind::Of("'alpha'|'score'"), "What comes first."),
    may("sort_dir", Kind::Of("'asc'|'dsc'"), "Up or down."),
    may(
        "include_score",
        Kind::Of("boolean"),
        "Say how like each is.",
    ),
    LIMIT,
    may("batch_size", Kind::Of("int64"), "How many a line."),
];

const fn endpoint(
    path: &'static str,
    methods: &'static [Method],
    (tag, id, schemas): (&'static str, &'static str, &'static str),
    summary: &'static str,
    params: &'static [&'static [Param]],
    gives: Gives,
) -> Endpoint {
    Endpoint {
        path,
        methods,
        tag,
        id,
        schemas,
        summary,
        params,
        gives,
    }
}

/// Every endpoint below `/api/v1`.
#[rustfmt::skip]
pub(super) const ENDPOINTS: &[Endpoint] = &[
    endpoint("/query", BOTH, ("query", "query", "Query"), "Evaluates an expression at one time",
        &[&[QUERY, may("time", Kind::Time, "When; now, if not given.")], EVALUATED], Gives::Data("QueryData")),
    endpoint("/query_range", BOTH, ("query", "query-range", "QueryRange"), "Evaluates an expression at many times",
        &[&[QUERY], RANGED, EVALUATED], Gives::Data("QueryData")),
    endpoint("/query_exemplars", BOTH, ("query", "query-exemplars", "QueryExemplars"), "Gives the exemplars of the series that an expression reads",
        &[&[QUERY], TIMED], Gives::Data("any")),
    endpoint("/query_explain", BOTH, ("query", "query-explain", "QueryExplain"), "Tells how an expression would be evaluated at one time",
        &[&[QUERY, may("time", Kind::Time, "When; now, if not given.")]], Gives::Data("any")),
    endpoint("/query_range_explain", BOTH, ("query", "query-range-explain", "QueryRangeExplain"), "Tells how an expression would be evaluated at many times",
        &[&[QUERY], RANGED], Gives::Data("any")),
    endpoint("/format_query", BOTH, ("query", "format-query", "FormatQuery"), "Lays an expression out", &[&[QUERY]], Gives::Data("string")),
    endpoint("/parse_query", BOTH, ("query", "parse-query", "ParseQuery"), "Gives the tree of an expression", &[&[QUERY]], Gives::Data("any")),
    endpoint("/labels", BOTH, ("labels", "labels", "Labels"), "Lists names of labels", &[TIMED, &[MATCH, LIMIT]], Gives::Data("[string]")),
    endpoint("/label/{name}/values", GET, ("labels", "label-values", "LabelValues"), "Lists the values of a label",
        &[&[must("name", Kind::Path, "The label.")], TIMED, &[MATCH, LIMIT]], Gives::Data("[string]")),
    endpoint("/search/metric_names", BOTH, ("metadata", "search-metric-names", "SearchMetricNames"), "Searches names of metrics",
        &[SEARCHED, TIMED, &[may("include_metadata", Kind::Of("boolean"), "With type, unit and help.")]], Gives::Lines),
    endpoint("/search/label_names", BOTH, ("labels", "search-label-names", "SearchLabelNames"), "Searches names of labels", &[SEARCHED, TIMED], Gives::Lines),
    endpoint("/search/label_values", BOTH, ("labels", "search-label-values", "SearchLabelValues"), "Searches values of a label",
        &[&[must("label", Kind::Of("string"), "The label.")], SEARCHED, TIMED], Gives::Lines),
    endpoint("/series", BOTH, ("series", "series", "Series"), "Lists series",
        &[TIMED, &[must("match[]", Kind::Of("[string]"), "Series that one of these selectors selects."), LIMIT]], Gives::Data("[Labels]")),
    endpoint("/metadata", GET, ("metadata", "get-metadata", "Metadata"), "Gives types, units and help texts",
        &[&[LIMIT, may("limit_per_metric", Kind::Of("int64"), "This many of each metric at most."), may("metric", Kind::Of("string"), "Only of this one.")]],
        Gives::Data("<[Metadata]>")),
    endpoint("/scrape_pools", GET, ("targets", "get-scrape-pools", "ScrapePools"), "Lists scrape pools", &[], Gives::Data("ScrapePoolsDiscovery")),
    endpoint("/scrape_pools/config", GET, ("targets", "get-scrape-pool-config", "ScrapePoolConfig"), "Gives the configuration of a scrape pool",
        &[&[must("scrapePool", Kind::Of("string"), "Its name.")]], Gives::Data("ScrapePoolConfigData")),
    endpoint("/targets", GET, ("targets", "get-targets", "Targets"), "Lists targets",
        &[&[may("scrapePool", Kind::Of("string"), "Only of this scrape pool."), may("state", Kind::Of("string"), "`active`, `dropped` or `any`.")]],
        Gives::Data("TargetDiscovery")),
    endpoint("/targets/metadata", GET, ("targets", "get-targets-metadata", "TargetMetadata"), "Gives what targets say of their metrics",
        &[&[may("match_target", Kind::Of("string"), "Only targets whose labels this selects."), may("metric", Kind::Of("string"), "Only of this metric."), LIMIT]],
        Gives::Data("[MetricMetadata]")),
    endpoint("/targets/relabel_steps", GET, ("targets", "get-targets-relabel-steps", "TargetRelabelSteps"), "Tells what becomes of a target's labels",
        &[&[must("scrapePool", Kind::Of("string"), "Whose rules."), must("labels", Kind::Of("string"), "The labels, as a JSON object.")]],
        Gives::Data("RelabelStepsResponse")),
    endpoint("/rules", GET, ("rules", "rules", "Rules"), "Lists rules and their state",
        &[&[
            may("type", Kind::Of("string"), "`alert` or `record`."),
            may("rule_name[]", Kind::Of("[string]"), "Only rules of these names."),
            may("rule_group[]", Kind::Of("[string]"), "Only groups of these names."),
            may("file[]", Kind::Of("[string]"), "Only of these files."),
            may("match[]", Kind::Of("[string]"), "Only rules whose labels one of these selects."),
            may("exclude_alerts", Kind::Of("string"), "`true`: without the alerts."),
            may("group_limit", Kind::Of("int64"), "This many groups at once."),
            may("group_next_token", Kind::Of("string"), "Go on where another answer ended."),
        ]], Gives::Data("RuleDiscovery")),
    endpoint("/alerts", GET, ("alerts", "alerts", "Alerts"), "Lists alerts", &[], Gives::Data("AlertDiscovery")),
    endpoint("/alertmanagers", GET, ("alerts", "alertmanagers", "Alertmanagers"), "Lists Alertmanagers", &[], Gives::Data("AlertmanagerDiscovery")),
    endpoint("/status/config", GET, ("status", "get-status-config", "StatusConfig"), "Gives the configuration in force", &[], Gives::Data("StatusConfigData")),
    endpoint("/status/runtimeinfo", GET, ("status", "get-status-runtimeinfo", "StatusRuntimeInfo"), "Tells how the process is doing", &[], Gives::Data("RuntimeInfo")),
    endpoint("/status/buildinfo", GET, ("status", "get-status-buildinfo", "StatusBuildInfo"), "Tells what runs", &[], Gives::Data("PrometheusVersion")),
    endpoint("/status/flags", GET, ("status", "get-status-flags", "StatusFlags"), "Lists the flags", &[], Gives::Data("<string>")),
    endpoint("/status/tsdb", GET, ("status", "status-tsdb", "StatusTSDB"), "Tells which series are the most", &[&[LIMIT]], Gives::Data("TSDBStatus")),
    endpoint("/status/tsdb/blocks", GET, ("status", "status-tsdb-blocks", "StatusTSDBBlocks"), "Lists the local blocks", &[], Gives::Data("StatusTSDBBlocksData")),
    endpoint("/status/walreplay", GET, ("status", "get-status-walreplay", "StatusWALReplay"), "Tells how far the log is replayed", &[], Gives::Data("StatusWALReplayData")),
    endpoint("/status/self_metrics", GET, ("status", "get-status-self-metrics", "StatusSelfMetrics"), "Gives our own metrics",
        &[&[may("metric_name_pattern", Kind::Of("string"), "Only those whose name this regular expression matches.")]], Gives::Data("any")),
    endpoint("/status/bucket", GET, ("stores", "get-status-bucket", "StatusBucket"), "Tells what is in the bucket", &[], Gives::Data("any")),
    endpoint("/stores", GET, ("stores", "get-stores", "Stores"), "Lists the stores that are asked", &[], Gives::Data("<[any]>")),
    endpoint("/admin/tsdb/delete_series", POST_PUT, ("admin", "deleteSeries", "DeleteSeries"), "Deletes samples",
        &[&[must("match[]", Kind::Of("[string]"), "Of series that one of these selectors selects.")], TIMED], Gives::Data("")),
    endpoint("/admin/tsdb/clean_tombstones", POST_PUT, ("admin", "cleanTombstones", "CleanTombstones"), "Frees the space of what was deleted", &[], Gives::Data("")),
    endpoint("/admin/tsdb/snapshot", POST_PUT, ("admin", "snapshot", "Snapshot"), "Makes a copy of all data, on disk",
        &[&[may("skip_head", Kind::Of("string"), "`true`: of blocks alone.")]], Gives::Data("DataStruct")),
    endpoint("/read", POST, ("remote", "remoteRead", "RemoteRead"), "Gives series to another server", &[], Gives::Raw("application/x-protobuf")),
    endpoint("/write", POST, ("remote", "remoteWrite", "RemoteWrite"), "Takes samples from another server", &[], Gives::Nothing),
    endpoint("/otlp/v1/metrics", POST, ("otlp", "otlpWrite", "OtlpWrite"), "Takes metrics from OpenTelemetry", &[], Gives::Nothing),
    endpoint("/notifications", GET, ("notifications", "get-notifications", "Notifications"), "Lists what people should know", &[], Gives::Data("[Notification]")),
    endpoint("/notifications/live", GET, ("notifications", "notifications-live", "NotificationsLive"), "Tells it as it happens", &[], Gives::Events("Notification")),
    endpoint("/features", GET, ("features", "get-features", "Features"), "Lists what is there, and what is on", &[], Gives::Data("<any>")),
    endpoint("/openapi.yaml", GET, ("status", "get-openapi", "OpenAPI"), "Describes the API for programs",
        &[&[may("openapi_version", Kind::Of("'3.1'|'3.2'"), "Which OpenAPI to speak.")]], Gives::Raw("application/yaml")),
];
