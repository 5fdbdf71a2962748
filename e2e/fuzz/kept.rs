//! Queries that were answered differently once.

use super::{When, data, seconds};

/// The query, and when it is asked: seconds since the data's start, and for range queries the
/// number of steps and their distance in seconds.
pub const QUERIES: &[(&str, (f64, i64, i64))] = &[
    (
        r#"asin(({__name__=~".*_total"}) - (requests_total{job!~""}))"#,
        (2985.0, 0, 0),
    ),
    (
        r#"job_info != bool on (job) group_right (owner) {__name__=~".*_total",code="500"} > avg_over_time({__name__=~".*_total",code="500"}[2m30s])"#,
        (7539.322, 28, 15),
    ),
    (
        r#"job_info % on (job) group_right (owner) {__name__=~".*_total",job!="db"} == bool avg_over_time({__name__=~".*_total",job!="db"}[30s])"#,
        (2177.181, 40, 1000),
    ),
    (
        r#"increase((build_info smoothed offset 1h)[2m30s * 2:30s])"#,
        (5385.0, 0, 0),
    ),
    (
        r#"absent_over_time(requests_total{job=~".*",instance=~".*-[01]:.*",instance="web-2:9100"}[1h] @ end())"#,
        (12303.358, 0, 0),
    ),
    (r#"day_of_month(temperature / 0)"#, (14107.563, 0, 0)),
    (r#"minute(temperature / 0)"#, (14107.563, 0, 0)),
    (r#"year(vector(NaN))"#, (14107.563, 0, 0)),
    (
        r#"limit_ratio without (code) (1, timestamp(requests_total offset -10m @ 1700011754.777))"#,
        (7155.0, 0, 0),
    ),
    (
        r#"count(timestamp(requests_total offset 2m @ 1700006355))"#,
        (7155.0, 0, 0),
    ),
    (
        r#"absent_over_time(temperature{code!=""}[15s] anchored offset 30s)"#,
        (14825.916, 0, 0),
    ),
    (
        r#"sum by (code) (quantile_over_time(2, ({"utf8.metric"})[2m30s:1m])) - max by (code) (rate(temperature{code="500"}[5m] @ start()))"#,
        (10864.195, 19, 61),
    ),
    (
        r#"topk (0, quantile by () (-1, build_info{code="",job=~".*"}))"#,
        (11764.149, 0, 0),
    ),
    (
        r#"histogram_quantile(1.2, histogram_quantile(1.2, rate(latency_seconds_bucket[5m])))"#,
        (13234.702, 42, 60),
    ),
    (
        r#"job_info + on (job) group_right (owner) topk by (le) (0, rate({__name__=~"temp.*|queue_length"}[1h * 2] anchored))"#,
        (12189.344, 37, 300),
    ),
    (
        r#"latency_seconds_bucket{queue=~"(?i)MAIN",code="",instance="web-2:9100"} smoothed ^ on (job) group_left max by (job) (day_of_week(deg({__name__=~".*_total",instance="web-2:9100",job!="db",job!~""})))"#,
        (623.782, 14, 60),
    ),
    (
        r#"first_over_time((sum (sort(sort_by_label(requests_total, "instance", "code"))))[10m:])"#,
        (12445.004, 3, 300),
    ),
    (
        r#"(day_of_week(bottomk by (le, job) (0, job_info))) <= on (instance) ((rate(requests_total{job=~"",instance="web-2:9100"}[15s])) unless ignoring (code, code) (round({__name__=~".*_total"}, scalar(latency_seconds_bucket))))"#,
        (840.0, 25, 300),
    ),
    (
        r#"histogram_quantile(0.5, sum by (le) (rate(latency_seconds_bucket{job!="db"}[10m]))) % on (job) group_left max by (job) (histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket{job!="db"}[10m]))))"#,
        (8766.525, 0, 0),
    ),
    (r#"sort(sort_desc(queue_length))"#, (4410.0, 7, 300)),
    (
        r#"(acosh(sum by (version) (rate((temperature)[10m:1m])) == bool max by (version) (temperature{version=~"1\\.[23]"}))) and on () (increase(temperature[15s]))"#,
        (8889.964, 0, 0),
    ),
    (
        r#"predict_linear((ts_of_first_over_time(latency_seconds_count{instance!~".*-3:9100"}[15s] anchored))[15s:], 2)"#,
        (1725.0, 0, 0),
    ),
    (
        r#"absent_over_time({"utf8.metric",job!="db",code!="",job="api",code=~"2.."}[2m30s])"#,
        (14984.157, 22, 30),
    ),
    (
        r#"avg_over_time((round(sort_by_label(increase(errors_total{job!~""}[10m]), "instance", "code"), time()))[1m:1m])"#,
        (4782.427, 0, 0),
    ),
    (
        r#"histogram_quantile(0.5, sum by (le) (rate(latency_seconds_bucket{job!="db"}[10m]))) % on (job) group_left max by (job) (histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket{job!="db"}[10m]))))"#,
        (8766.525, 0, 0),
    ),
    (
        r#"sum_over_time((sum without (le, owner) (({__name__=~".*_total"}) / scalar(latency_seconds_count{le="0.5"})))[17m:]) * on (job) group_left max by (job) (clamp_min((predict_linear(nothing[30s] smoothed, 10)) unless ((temperature{job!~"w.*"}) unless (build_info{job=~"api|web"})), (75.4 / 42.5)))"#,
        (15058.917, 0, 0),
    ),
    (
        r#"changes((tanh(sort_by_label(build_info, "instance", "code")))[15s:1m])"#,
        (2027.04, 0, 0),
    ),
    (
        r#"sort_by_label(info(vector(NaN)), "instance", "code")"#,
        (4413.501, 22, 61),
    ),
    (r#"sort(queue_length)[2m:1m]"#, (4410.0, 0, 0)),
    (
        r#"bottomk by () (4, count_over_time(temperature[2m30s]))"#,
        (7147.605, 59, 30),
    ),
    (
        r#"predict_linear(temperature[2m30s] offset -1m, 85.9)"#,
        (3310.777, 0, 0),
    ),
    (
        r#"(sinh((requests_total @ 1700007881.777) and on (job, le) (job_info{instance!~".*-3:9100"}))) % (1 - 0x10)"#,
        (8746.777, 0, 0),
    ),
    (
        r#"count without () (label_replace(vector(-1), "owner", "${1}${x}z", "code", ")?P<x>a((.*)"))"#,
        (3000.777, 0, 0),
    ),
];

/// Whether 2.x knows the query and means the same by it. It takes the variance of what is not finite to be 0,
/// finds a line through it (and looks from elsewhere in `predict_linear` with `@`), picks others among equals,
/// rounds where powers do not forgive it, and has closed windows, which shows where a subquery's steps are the
/// times another one's windows end at.
pub fn means_the_same_in_2(query: &str) -> bool {
    let has = |text: &str| query.contains(text);
    // All of them were found against 3.x.
    if QUERIES.iter().any(|(kept, _)| *kept == query) {
        return false;
    }
    let varies = has("stddev") || has("stdvar");
    let picks = has("topk") || has("bottomk");
    let subqueries =
        query.matches(":]").count() + query.matches("s:").count() + query.matches("m:").count();
    // Rounding (2.x adds up without compensation, which a remainder shows), and the labels of what is absent.
    let sums = has("sum") && has("%");
    let others = has("^") || has("avg_over_time") || has("absent") || sums;
    let lines = has("predict_linear") || has("deriv");
    !(varies || picks || others || lines || subqueries >= 2)
}

/// The time of a kept query.
pub fn when((start, steps, step): (f64, i64, i64)) -> When {
    let start = data::START + (start * 1000.0) as i64;
    if steps == 0 {
        return When::At(seconds(start));
    }
    let end = start + steps * step * 1000;
    When::Range(seconds(start), seconds(end), step.to_string())
}
