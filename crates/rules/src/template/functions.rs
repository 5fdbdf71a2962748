//! The functions of templates: Go's built-in ones and Prometheus' own.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use model::regex::Regex;

use super::value::Value;
use super::{Env, format};

/// What a function wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Param {
    Any,
    Str,
    Sample,
    Samples,
}

impl Param {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Param::Any => "interface {}",
            Param::Str => "string",
            Param::Sample => "*template.sample",
            Param::Samples => "template.queryResult",
        }
    }
}

/// A function's name and parameters; with `rest` the last may come any number of times.
pub(super) struct Function {
    name: &'static str,
    params: &'static [Param],
    rest: bool,
}

impl Function {
    /// Whether so many arguments will do; if not, how many it wants.
    pub(super) fn accepts(&self, given: usize) -> Result<(), String> {
        let least = self.params.len() - usize::from(self.rest);
        if self.rest && given < least {
            return Err(format!("at least {least}"));
        }
        if !self.rest && given != least {
            return Err(least.to_string());
        }
        Ok(())
    }

    pub(super) fn param(&self, i: usize) -> Param {
        let last = self.params.last().copied().unwrap_or(Param::Any);
        self.params.get(i).copied().unwrap_or(last)
    }
}

const fn function(name: &'static str, params: &'static [Param]) -> Function {
    Function {
        name,
        params,
        rest: false,
    }
}

const fn variadic(name: &'static str, params: &'static [Param]) -> Function {
    Function {
        name,
        params,
        rest: true,
    }
}

use Param::{Any, Sample, Samples, Str};

/// Those of Go's templates.
const GO: &[Function] = &[
    variadic("and", &[Any, Any]),
    variadic("or", &[Any, Any]),
    function("not", &[Any]),
    function("len", &[Any]),
    variadic("index", &[Any, Any]),
    variadic("slice", &[Any, Any]),
    variadic("print", &[Any]),
    variadic("printf", &[Str, Any]),
    variadic("println", &[Any]),
    variadic("html", &[Any]),
    variadic("js", &[Any]),
    variadic("urlquery", &[Any]),
    variadic("call", &[Any, Any]),
    variadic("eq", &[Any, Any]),
    function("ne", &[Any, Any]),
    function("lt", &[Any, Any]),
    function("le", &[Any, Any]),
    function("gt", &[Any, Any]),
    function("ge", &[Any, Any]),
];

/// Those that Prometheus adds.
const PROMETHEUS: &[Function] = &[
    function("query", &[Str]),
    function("first", &[Samples]),
    function("label", &[Str, Sample]),
    function("value", &[Sample]),
    function("strvalue", &[Sample]),
    variadic("args", &[Any]),
    function("reReplaceAll", &[Str, Str, Str]),
    function("safeHtml", &[Str]),
    function("match", &[Str, Str]),
    function("title", &[Str]),
    function("toUpper", &[Str]),
    function("toLower", &[Str]),
    function("graphLink", &[Str]),
    function("tableLink", &[Str]),
    function("sortByLabel", &[Str, Samples]),
    function("stripPort", &[Str]),
    function("stripDomain", &[Str]),
    function("humanize", &[Any]),
    function("humanize1024", &[Any]),
    function("humanizeDuration", &[Any]),
    function("humanizePercentage", &[Any]),
    function("humanizeTimestamp", &[Any]),
    function("toTime", &[Any]),
    function("toDuration", &[Any]),
    function("now", &[]),
    function("pathPrefix", &[]),
    function("externalURL", &[]),
    function("parseDuration", &[Str]),
    function("urlQueryEscape", &[Str]),
];

/// The function of that name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    GO.iter().chain(PROMETHEUS).find(|f| f.name == name)
}

/// Names of those that Prometheus adds.
pub fn functions() -> impl Iterator<Item = &'static str> {
    PROMETHEUS.iter().map(|f| f.name)
}

/// Why a function failed.
pub(super) enum Failed {
    /// It said so itself.
    Calling(String),
    /// It ended the template, as a panic does in Go.
    Plain(String),
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Failed::Calling(message)
    }
}

impl From<&str> for Failed {
    fn from(message: &str) -> Self {
        Failed::Calling(message.to_owned())
    }
}

/// Calls a function with arguments that fit its parameters.
pub(super) fn call(name: &str, args: Vec<Value>, env: &Env<'_>) -> Result<Value, Failed> {
    let text = |i: usize| args.get(i).map(Value::print).unwrap_or_default();
    let arg = |i: usize| args.get(i).unwrap_or(&Value::None);
    Ok(match name {
        "not" => Value::Bool(!arg(0).truth()),
        "len" => len(arg(0))?,
        "index" => index(&args)?,
        "slice" => slice(&args)?,
        "print" => Value::text(&print(&args, false)),
        "println" => Value::text(&print(&args, true)),
        "printf" => Value::text(&format::sprintf(
            &text(0),
            args.get(1..).unwrap_or_default(),
        )),
        "html" => Value::text(&html(&eval_args(&args))),
        "js" => Value::text(&js(&eval_args(&args))),
        "urlquery" => Value::text(&query_escape(&eval_args(&args))),
        "call" => return Err(format!("non-function {} of type {}", text(0), arg(0).kind()).into()),
        "eq" => {
            let mut equal = false;
            for other in args.get(1..).unwrap_or_default() {
                equal = compare(arg(0), other)? == Some(Ordering::Equal);
                if equal {
                    break;
                }
            }
            if args.len() == 1 {
                return Err("missing argument for comparison".into());
            }
            Value::Bool(equal)
        }
        "ne" => Value::Bool(compare(arg(0), arg(1))? != Some(Ordering::Equal)),
        "lt" => Value::Bool(ordered(arg(0), arg(1))? == Some(Ordering::Less)),
        "le" => Value::Bool(matches!(
            ordered(arg(0), arg(1))?,
            Some(Ordering::Less | Ordering::Equal)
        )),
        // As Go does: not less or equal, which is true for NaN.
        "gt" => Value::Bool(!matches!(
            ordered(arg(0), arg(1))?,
            Some(Ordering::Less | Ordering::Equal)
        )),
        "ge" => Value::Bool(ordered(arg(0), arg(1))? != Some(Ordering::Less)),

        "query" => {
            let found = (env.query)(&text(0))?;
            Value::Samples(Arc::new(found.into_iter().map(Arc::new).collect()))
        }
        "first" => match arg(0) {
            Value::Samples(list) if !list.is_empty() => Value::Sample(Arc::clone(&list[0])),
            _ => return Err("first() called on vector with no elements".into()),
        },
        "label" => match arg(1) {
            Value::Sample(s) => Value::text(s.labels.get(&text(0)).unwrap_or("")),
            _ => Value::None,
        },
        "strvalue" => match arg(0) {
            Value::Sample(s) => Value::text(s.labels.get("__value__").unwrap_or("")),
            _ => Value::None,
        },
        "value" => match arg(0) {
            Value::Sample(s) => s.value.value(),
            _ => Value::None,
        },
        "args" => {
            let named = args.iter().enumerate();
            let map: BTreeMap<_, _> = named.map(|(i, v)| (format!("arg{i}"), v.clone())).collect();
            Value::Args(Arc::new(map))
        }
        "reReplaceAll" => Value::text(&replace_all(&text(0), &text(1), &text(2))?),
        "safeHtml" => Value::text(&text(0)),
        "match" => match Regex::new(&text(0)) {
            Ok(regex) => Value::Bool(regex.is_match(&text(1))),
            Err(e) => return Err(e.to_string().into()),
        },
        "title" => Value::text(&title(&text(0))),
        "toUpper" => Value::text(&text(0).to_uppercase()),
        "toLower" => Value::text(&text(0).to_lowercase()),
        "graphLink" => Value::text(&super::graph_link(&text(0))),
        "tableLink" => Value::text(&super::table_link(&text(0))),
        "sortByLabel" => match arg(1) {
            Value::Samples(list) => {
                let by = text(0);
                let mut sorted = Vec::clone(list);
                sorted.sort_by(|a, b| {
                    let of = |s: &super::value::Sample| s.labels.get(&by).unwrap_or("").to_owned();
                    of(a).cmp(&of(b))
                });
                Value::Samples(Arc::new(sorted))
            }
            _ => Value::None,
        },
        "stripPort" => {
            let text = text(0);
            Value::text(split_host_port(&text).map_or(text.as_str(), |(host, _)| host))
        }
        "stripDomain" => Value::text(&strip_domain(&text(0))),
        "humanize" => Value::text(&humanize(number(arg(0))?)),
        "humanize1024" => Value::text(&humanize1024(number(arg(0))?)),
        "humanizeDuration" => Value::text(&humanize_duration(number(arg(0))?)),
        "humanizePercentage" => {
            let percent = format::general(number(arg(0))? * 100.0, 4);
            Value::text(&format!("{percent}%"))
        }
        "humanizeTimestamp" => {
            let seconds = number(arg(0))?;
            if !seconds.is_finite() {
                return Ok(Value::text(&format::general(seconds, 4)));
            }
            Value::text(&Value::Time(nanoseconds(seconds)?).print())
        }
        "toTime" => {
            let seconds = number(arg(0))?;
            if !seconds.is_finite() {
                return Err("value is NaN or Inf".into());
            }
            Value::Time(nanoseconds(seconds)?)
        }
        // The conversion saturates, where Go's depends on the processor.
        "toDuration" => Value::Duration((number(arg(0))? * 1e9) as i64),
        "now" => Value::Float(env.now as f64 / 1000.0),
        "pathPrefix" => Value::text(env.path_prefix()),
        "externalURL" => Value::text(env.external_url),
        "parseDuration" => Value::Float(parse_duration(&text(0))?),
        "urlQueryEscape" => Value::text(&query_escape(&text(0))),
        _ => Value::None,
    })
}

/// The one text argument as it is, several as `print` writes them.
fn eval_args(args: &[Value]) -> String {
    match args {
        [Value::Str(s)] => s.to_string(),
        [Value::Sample(s)] => Value::Sample(Arc::clone(s)).shown(),
        args => print(args, false),
    }
}

/// Go's `fmt.Sprint` (a space between operands when neither is a string) and `fmt.Sprintln`.
fn print(args: &[Value], line: bool) -> String {
    let mut out = String::new();
    let is_text = |v: Option<&Value>| matches!(v, Some(Value::Str(_)));
    for (i, arg) in args.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| args.get(i));
        if i > 0 && (line || !is_text(before) && !is_text(Some(arg))) {
            out.push(' ');
        }
        match arg {
            Value::None => out.push_str("<nil>"),
            arg => out.push_str(&arg.print()),
        }
    }
    if line {
        out.push('\n');
    }
    out
}

fn len(value: &Value) -> Result<Value, Failed> {
    let n = match value {
        Value::Str(s) => s.len(),
        Value::Labels(labels) => labels.len(),
        Value::Args(map) => map.len(),
        Value::Samples(list) => list.len(),
        Value::None => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.kind()).into()),
    };
    Ok(Value::Int(n as i64))
}

fn index(args: &[Value]) -> Result<Value, Failed> {
    let Some((first, keys)) = args.split_first() else {
        return Ok(Value::None);
    };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::None, _) => return Err("index of untyped nil".into()),
            (Value::Labels(_) | Value::Args(_), Value::Str(name)) => {
                value.field(name).unwrap_or(Value::None)
            }
            (Value::Labels(_) | Value::Args(_), other) => {
                let kind = other.kind();
                return Err(format!("value has type {kind}; should be string").into());
            }
            (Value::Samples(_) | Value::Str(_), Value::Int(i)) => {
                let at = usize::try_from(*i).ok();
                let found = match &value {
                    Value::Samples(list) => at
                        .and_then(|i| list.get(i))
                        .map(|s| Value::Sample(Arc::clone(s))),
                    Value::Str(s) => at
                        .and_then(|i| s.as_bytes().get(i))
                        .map(|b| Value::Int(i64::from(*b))),
                    _ => None,
                };
                match found {
                    Some(value) => value,
                    None => return Err(format!("index out of range: {i}").into()),
                }
            }
            (Value::Samples(_) | Value::Str(_), other) => {
                let kind = other.kind();
                return Err(format!("cannot index slice/array with type {kind}").into());
            }
            (other, _) => return Err(format!("can't index item of type {}", other.kind()).into()),
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Result<Value, Failed> {
    let Some((value, bounds)) = args.split_first() else {
        return Ok(Value::None);
    };
    let len = match value {
        Value::Str(s) => s.len(),
        Value::Samples(list) => list.len(),
        Value::None => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.kind()).into()),
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()).into());
    }
    let mut range = [0, len];
    for (i, bound) in bounds.iter().enumerate() {
        let Value::Int(n) = bound else {
            let kind = bound.kind();
            return Err(format!("cannot index slice/array with type {kind}").into());
        };
        match usize::try_from(*n).ok().filter(|n| *n <= len) {
            Some(n) if i < 2 => range[i] = n,
            Some(_) => {}
            None => return Err(format!("index out of range: {n}").into()),
        }
    }
    let [from, to] = range;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}").into());
    }
    Ok(match value {
        Value::Str(s) => {
            let bytes = s.as_bytes().get(from..to).unwrap_or_default();
            Value::text(&String::from_utf8_lossy(bytes))
        }
        Value::Samples(list) => {
            Value::Samples(Arc::new(list.get(from..to).unwrap_or_default().to_vec()))
        }
        _ => Value::None,
    })
}

/// Two values that cannot be compared.
fn incompatible(a: &Value, b: &Value) -> Failed {
    let (a, b) = (a.kind(), b.kind());
    Failed::Calling(format!("incompatible types for comparison: {a} and {b}"))
}

/// Whether a value is of one of the kinds that `lt` and `eq` look into.
fn is_basic(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_)
    )
}

/// Whether two values are equal, as `eq` sees it.
fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, Failed> {
    match (a, b) {
        (Value::None, Value::None) => Ok(Some(Ordering::Equal)),
        (Value::None, _) | (_, Value::None) => Ok(None),
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::Sample(a), Value::Sample(b)) => Ok(Arc::ptr_eq(a, b).then_some(Ordering::Equal)),
        _ if is_basic(a) || is_basic(b) => same_kind(a, b).ok_or_else(|| incompatible(a, b)),
        _ => Err(format!("non-comparable type {}: {}", b.print(), b.kind()).into()),
    }
}

/// How two values are ordered, as `lt` sees it.
fn ordered(a: &Value, b: &Value) -> Result<Option<Ordering>, Failed> {
    if !is_basic(a) || !is_basic(b) || matches!((a, b), (Value::Bool(_), Value::Bool(_))) {
        return Err("invalid type for comparison".into());
    }
    same_kind(a, b).ok_or_else(|| incompatible(a, b))
}

fn same_kind(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Some(a.partial_cmp(b)),
        (Value::Str(a), Value::Str(b)) => Some(Some(a.cmp(b))),
        _ => None,
    }
}

/// A number from whatever may stand for one.
fn number(value: &Value) -> Result<f64, Failed> {
    match value {
        Value::Int(i) => Ok(*i as f64),
        Value::Float(f) => Ok(*f),
        Value::Str(s) => model::text::parse_float(s).ok_or_else(|| {
            let text = format::quote(s);
            Failed::Calling(format!(
                "strconv.ParseFloat: parsing {text}: invalid syntax"
            ))
        }),
        other => Err(format!("can't convert {} to float", other.kind()).into()),
    }
}

/// Seconds as nanoseconds at the resolution of milliseconds, as Prometheus' times have it.
fn nanoseconds(seconds: f64) -> Result<i64, Failed> {
    let ns = seconds * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        let shown = model::text::format_g(seconds);
        return Err(format!(
            "{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"
        )
        .into());
    }
    Ok(ns as i64 / 1_000_000 * 1_000_000)
}

fn scaled(mut value: f64, by: f64, prefixes: [&str; 8]) -> String {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < by {
            break;
        }
        prefix = next;
        value /= by;
    }
    format!("{}{prefix}", format::general(value, 4))
}

fn fraction(mut value: f64) -> String {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    format!("{}{prefix}", format::general(value, 4))
}

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format::general(value, 4);
    }
    if value.abs() >= 1.0 {
        return scaled(value, 1000.0, ["k", "M", "G", "T", "P", "E", "Z", "Y"]);
    }
    fraction(value)
}

fn humanize1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return format::general(value, 4);
    }
    scaled(
        value,
        1024.0,
        ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"],
    )
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return format::general(value, 4);
    }
    if value == 0.0 {
        return format!("{}s", format::general(value, 4));
    }
    if value.abs() < 1.0 {
        return format!("{}s", fraction(value));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    let whole = value as i64;
    let (days, hours, minutes, seconds) = (
        whole / 86_400,
        whole / 3600 % 24,
        whole / 60 % 60,
        whole % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", format::general(value, 4)),
        (0, 0, m) => format!("{sign}{m}m {seconds}s"),
        (0, h, m) => format!("{sign}{h}h {m}m {seconds}s"),
        (d, h, m) => format!("{sign}{d}d {h}h {m}m {seconds}s"),
    }
}

/// Go's `regexp.ReplaceAllString`.
fn replace_all(pattern: &str, replacement: &str, text: &str) -> Result<String, Failed> {
    let regex = Regex::new(pattern).map_err(|e| {
        let pattern = format!("`{pattern}`");
        Failed::Plain(format!("template: regexp: Compile({pattern}): {e}"))
    })?;
    Ok(regex.replace_all(text, replacement))
}

/// `host:port` or `[host]:port`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return (!inner.contains(['[', ']']) && !port.contains(['[', ']']))
            .then_some((inner, port));
    }
    (!host.contains([':', '[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    let is_address = host.parse::<IpAddr>().is_ok();
    if is_address {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    if port.is_empty() {
        host.to_owned()
    } else if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn parse_duration(text: &str) -> Result<f64, Failed> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let ms = model::time::parse_duration(unsigned).map_err(|e| Failed::Calling(e.to_string()))?;
    Ok(sign * ms as f64 / 1000.0)
}

/// The first letter of each word as a capital; the rest stays as it is. Words are Unicode's
/// (UAX 29), as far as ASCII punctuation is concerned: a colon joins letters, a comma digits.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    let mut capital = false;
    while let Some(c) = chars.next() {
        let after = chars.peek().copied().unwrap_or(' ');
        let between = |is: fn(char) -> bool| is(before) && is(after);
        let joins = match c {
            '\'' | '.' => between(char::is_alphabetic) || between(char::is_numeric),
            ':' => between(char::is_alphabetic),
            ',' | ';' => between(char::is_numeric),
            c => c == '_' || c.is_alphanumeric(),
        };
        if !joins {
            capital = false;
        }
        if c.is_alphabetic() && !capital {
            capital = true;
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

/// Go's `url.QueryEscape`.
pub(super) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            byte => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c < ' ' || !c.is_ascii() && c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}
