//! What the API answers, in a short notation: `{name: type, name?: type}` is an object (`?`: it may be
//! absent), `[type]` a list, `<type>` a map of them by name, `a|b` either, `'a'` this text, `(a, b)` a pair;
//! the rest is a type of JSON, a format of one, or another schema.

use serde_json::{Map, Value, json};

use super::reference;

/// The schemas by their names.
pub(super) const SCHEMAS: &[(&str, &str)] = &[
    (
        "Error",
        "{status: 'error'|'success', errorType: string, error: string}",
    ),
    ("Labels", "<string>"),
    (
        "QueryData",
        "{resultType: 'vector', result: [FloatSample|HistogramSample], stats?: QueryStats}\
         |{resultType: 'matrix', result: [FloatSeries|HistogramSeries], stats?: QueryStats}\
         |{resultType: 'scalar', result: (number, string), stats?: QueryStats}\
         |{resultType: 'string', result: (number, string), stats?: QueryStats}",
    ),
    (
        "QueryStats",
        "{timings?: {evalTotalTime?: number, resultSortTime?: number, queryPreparationTime?: number, innerEvalTime?: number, \
          execQueueTime?: number, execTotalTime?: number}, samples?: {totalQueryableSamples?: integer, peakSamples?: integer, \
          totalQueryableSamplesPerStep?: [(number, number)], samplesRead?: integer, samplesReadPerStep?: [(number, number)]}}",
    ),
    ("FloatSample", "{metric: Labels, value: (number, string)}"),
    (
        "HistogramSample",
        "{metric: Labels, histogram: (number, HistogramValue)}",
    ),
    (
        "FloatSeries",
        "{metric: Labels, values: [(number, string)]}",
    ),
    (
        "HistogramSeries",
        "{metric: Labels, histograms: [(number, HistogramValue)]}",
    ),
    (
        "HistogramValue",
        "{count: string, sum: string, buckets?: [[number|string]]}",
    ),
    ("Metadata", "{type: string, unit: string, help: string}"),
    (
        "MetricMetadata",
        "{target: Labels, metric?: string, type: string, help: string, unit: string}",
    ),
    (
        "Target",
        "{discoveredLabels: Labels, labels: Labels, scrapePool: string, scrapeUrl: string, globalUrl: string, lastError: string, \
          lastScrape: date-time, lastScrapeDuration: double, health: string, scrapeInterval: string, scrapeTimeout: string}",
    ),
    (
        "DroppedTarget",
        "{discoveredLabels: Labels, scrapePool: string}",
    ),
    (
        "TargetDiscovery",
        "{activeTargets: [Target], droppedTargets: [DroppedTarget], droppedTargetCounts: <int64>}",
    ),
    ("ScrapePoolsDiscovery", "{scrapePools: [string]}"),
    ("ScrapePoolConfigData", "{yaml: string}"),
    (
        "Config",
        "{source_labels?: [string], separator?: string, regex?: string, modulus?: int64, target_label?: string, replacement?: string, action?: string}",
    ),
    (
        "RelabelStep",
        "{rule: Config, output: Labels, keep: boolean}",
    ),
    ("RelabelStepsResponse", "{steps: [RelabelStep]}"),
    (
        "RuleGroup",
        "{name: string, file: string, rules: [<any>], interval: double, limit: int64, evaluationTime: double, lastEvaluation: date-time}",
    ),
    (
        "RuleDiscovery",
        "{groups: [RuleGroup], groupNextToken?: string}",
    ),
    (
        "Alert",
        "{labels: Labels, annotations: Labels, state: string, value: string, activeAt?: date-time, keepFiringSince?: date-time}",
    ),
    ("AlertDiscovery", "{alerts: [Alert]}"),
    ("AlertmanagerTarget", "{url: string}"),
    (
        "AlertmanagerDiscovery",
        "{activeAlertmanagers: [AlertmanagerTarget], droppedAlertmanagers: [AlertmanagerTarget]}",
    ),
    ("StatusConfigData", "{yaml: string}"),
    (
        "RuntimeInfo",
        "{startTime: date-time, CWD: string, hostname: string, serverTime: date-time, reloadConfigSuccess: boolean, lastConfigTime: date-time, \
          corruptionCount: int64, goroutineCount: int64, GOMAXPROCS: int64, GOMEMLIMIT: int64, GOGC: string, GODEBUG: string, storageRetention: string}",
    ),
    (
        "PrometheusVersion",
        "{version: string, revision: string, branch: string, buildUser: string, buildDate: string, goVersion: string}",
    ),
    (
        "HeadStats",
        "{numSeries: int64, numLabelPairs: int64, chunkCount: int64, minTime: int64, maxTime: int64}",
    ),
    ("TSDBStat", "{name: string, value: int64}"),
    (
        "TSDBStatus",
        "{headStats: HeadStats, seriesCountByMetricName: [TSDBStat], labelValueCountByLabelName: [TSDBStat], \
          memoryInBytesByLabelName: [TSDBStat], seriesCountByLabelValuePair: [TSDBStat]}",
    ),
    (
        "BlockDesc",
        "{ulid: string, minTime: int64, maxTime: int64}",
    ),
    (
        "BlockStats",
        "{numSamples?: int64, numSeries?: int64, numChunks?: int64, numTombstones?: int64, numFloatSamples?: int64, numHistogramSamples?: int64}",
    ),
    (
        "BlockMetaCompaction",
        "{level: int64, sources?: [string], parents?: [BlockDesc], failed?: boolean, deletable?: boolean, hints?: [string]}",
    ),
    (
        "BlockMeta",
        "{ulid: string, minTime: int64, maxTime: int64, stats?: BlockStats, compaction: BlockMetaCompaction, version: int64}",
    ),
    ("StatusTSDBBlocksData", "{blocks: [BlockMeta]}"),
    (
        "StatusWALReplayData",
        "{min: int64, max: int64, current: int64}",
    ),
    ("DataStruct", "{name: string}"),
    (
        "Notification",
        "{text: string, date: date-time, active: boolean}",
    ),
];

/// The schema that a text of the notation means. A text that is wrong means anything, which a test excludes.
pub(super) fn schema(text: &str) -> Value {
    parse(text).unwrap_or_else(|| json!({}))
}

/// The same, or nothing if the text is wrong.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut rest = text;
    let value = either(&mut rest)?;
    rest.trim().is_empty().then_some(value)
}

fn either(rest: &mut &str) -> Option<Value> {
    let mut choices = vec![one(rest)?];
    while eat(rest, "|") {
        choices.push(one(rest)?);
    }
    let texts: Option<Vec<&Value>> = choices.iter().map(|c| c.get("const")).collect();
    Some(match (texts, choices.len()) {
        (Some(texts), _) => json!({"type": "string", "enum": texts}),
        (None, 1) => choices.pop()?,
        (None, _) => json!({"oneOf": choices}),
    })
}

fn one(rest: &mut &str) -> Option<Value> {
    if eat(rest, "{") {
        return object(rest);
    }
    if eat(rest, "[") {
        let items = either(rest)?;
        return eat(rest, "]").then(|| json!({"type": "array", "items": items}));
    }
    if eat(rest, "<") {
        let items = either(rest)?;
        return eat(rest, ">").then(|| json!({"type": "object", "additionalProperties": items}));
    }
    if eat(rest, "(") {
        let first = either(rest)?;
        let second = eat(rest, ",").then(|| either(rest))??;
        let pair =
            json!({"type": "array", "prefixItems": [first, second], "minItems": 2, "maxItems": 2});
        return eat(rest, ")").then_some(pair);
    }
    if eat(rest, "'") {
        let (text, after) = rest.split_once('\'')?;
        *rest = after;
        return Some(json!({"const": text}));
    }
    Some(match word(rest) {
        "" => return None,
        "any" => json!({}),
        name @ ("string" | "number" | "integer" | "boolean") => json!({"type": name}),
        "int64" => json!({"type": "integer", "format": "int64"}),
        "double" => json!({"type": "number", "format": "double"}),
        "date-time" => json!({"type": "string", "format": "date-time"}),
        other => reference(other),
    })
}

fn object(rest: &mut &str) -> Option<Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    loop {
        let name = word(rest);
        if name.is_empty() {
            return None;
        }
        if !eat(rest, "?") {
            required.push(name);
        }
        if !eat(rest, ":") {
            return None;
        }
        properties.insert(name.to_owned(), either(rest)?);
        if eat(rest, "}") {
            break;
        }
        if !eat(rest, ",") {
            return None;
        }
    }
    let mut object = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    Some(object)
}

fn eat(rest: &mut &str, token: &str) -> bool {
    let Some(after) = rest.trim_start().strip_prefix(token) else {
        return false;
    };
    *rest = after;
    true
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    let (word, after) = text.split_at(end.unwrap_or(text.len()));
    *rest = after;
    word
}
